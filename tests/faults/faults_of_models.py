"""Faults of the embedding model: limits, errors, silence, and answers that are wrong in every way they can be.

Before this: the stand-in model server. After this: `matrix.py`. That no bad vector is stored, the judge looks after.
"""

from __future__ import annotations

import random
from functools import partial

from tests.faults.fault import Bite
from tests.faults.world import World
from tests.stand_ins.model_control import Kind
from tests.support.client import eventually

KINDS: tuple[Kind, ...] = (
    "rate_limit",
    "server_error",
    "overloaded",
    "hang",
    "drop",
    "garbage",
    "strange",
    "nan",
    "zero",
    "short",
    "permuted",
    "misnumbered",
    "wrong_dimension",
)


def misbehaves(world: World, rng: random.Random) -> Bite:
    """F38: each kind of misbehaviour twice, one after the other, while there is always something new to embed."""
    world.healing.callback(world.models.reset)
    done = []
    for kind in rng.sample(KINDS, len(KINDS)):
        world.models.misbehave(kind, 2, path="embed", seconds=5.0, retry_after=1.0 if kind == "rate_limit" else None)
        eventually(partial(_met, world, kind, rng), 60, every_s=0.4)
        done.append(kind)
    return Bite(2 * len(done), f"twice each: {', '.join(done)}")


def _met(world: World, kind: Kind, rng: random.Random) -> bool:
    """Publish something new to embed; whether the misbehaviour has been met by now."""
    world.load.publish(f"embedded-{kind}-{rng.randrange(5)}", f"Told to the model: {kind} {rng.getrandbits(64)}.")
    return all(fault.times == 0 for fault in list(world.models.state.faults))
