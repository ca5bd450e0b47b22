"""Histories: what can happen, drawn from a seed as a list of actions; run, and shortened when one finds something.

Before this: nothing. After this: `world.py` carries the actions out. An action that makes no sense where it stands
does nothing, so any part of a history is a history.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from tests.simulation.judge import Broken
from tests.simulation.outside import UNREADABLE
from tests.simulation.process import Fault
from tests.simulation.store import CRASHING, REFUSED, UNSTORABLE
from tests.simulation.world import Shape, World

Action = tuple[Any, ...]

WORDS = ["alpha beta gamma.", "delta epsilon.", "zeta eta theta iota.", "kappa lambda.", "mu nu xi.", "omicron pi rho."]


class Finding(AssertionError):
    """A history in which the product broke a promise."""


@dataclass(frozen=True)
class History:
    """What happens, in order, in a world of this shape."""

    shape: Shape
    actions: Sequence[Action]


@dataclass
class Totals:
    """What many histories came to: a run that injects nothing proves nothing."""

    histories: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, counts: dict[str, int]) -> None:
        """Count one more."""
        self.add_all(Totals(1, counts))

    def add_all(self, other: Totals) -> None:
        """Count what another has counted."""
        self.histories += other.histories
        counts = other.counts
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


def perform(world: World, action: Action) -> None:
    """Carry one action out. Raises Finding."""
    name, *given = action
    if name in ("publish", "upload") and len(given) > 2 and world.ms % 3:
        world.ms += 1  # else it comes in the same millisecond as the one before
    try:
        _ACTIONS[name](world, *given)
    except Broken as broken:
        raise Finding(str(broken)) from None
    except Exception as error:
        raise Finding(f"{type(error).__name__} in {name}: {error}") from error


def run(history: History, totals: Totals | None = None) -> None:
    """Carry a history out, bring the world to rest, judge. Raises Finding."""
    world = World(history.shape)
    try:
        for action in history.actions:
            perform(world, action)
        perform(world, ("finish",))
    finally:
        world.close()
    if totals is not None:
        totals.add(world.counts)


def drawn(seed: int) -> History:
    """The history of a seed."""
    rng = random.Random(seed)
    kind = rng.random()
    if kind < 0.15:
        return _rivals(rng)
    shape = Shape(
        partitions=rng.randint(1, 3),
        workers={
            "capture": rng.randint(1, 2),
            "parse": rng.randint(1, 2),
            "index": rng.randint(1, 3),
            "bulk": rng.choice((0, 0, 1, 2)),
        },
        batch=rng.choice((1, 2, 4, 8)),
        slice_texts=rng.choice((1, 2, 3, 256)),
        drain=rng.randrange(1 << 30),
    )
    if kind < 0.35:
        return History(shape, _hot(rng, shape))
    poison = rng.random() < 0.3
    focus = rng.choice(("cards", "notes", "both", "none"))
    actions: list[Action] = []
    for table in ("notes", "cards"):
        if focus in (table, "both") and rng.random() < 0.5:
            actions += [("put", table, str(key), _row(rng, poison)) for key in range(rng.randint(1, 3))]
            actions += [("snapshot", table, rng.choice((0, 0, 1, 2))), ("send", table, rng.randint(0, 3))]
            if rng.random() < 0.3:
                actions += [("delete", table, "0"), ("connect", table, rng.randint(0, 1))]
    for _ in range(rng.randint(4, 22)):
        actions.append(_change(rng, focus, poison))
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            actions.append(_trouble(rng))
            actions.append(("run", rng.randrange(8), rng.choice((0, 1, 2, 3, 5, 8, 20, 60))))
    return History(shape, actions)


def _hot(rng: random.Random, shape: Shape) -> list[Action]:
    """One document that changes to and fro, its writers stopped and killed amid each other's marks."""
    hot = rng.sample(WORDS, 3)
    table = rng.choice(("", "", "cards"))
    actions: list[Action] = []
    first = shape.workers["capture"] + shape.workers["parse"]
    writers = shape.workers["index"] + shape.workers["bulk"]
    for _ in range(rng.randint(3, 9)):
        for _ in range(rng.choice((1, 1, 2))):
            if table and rng.random() < 0.2:
                actions.append(("truncate", table))
            elif table:
                actions.append(("put", table, "0", {"body": _hot_text(rng, hot)}))
            else:
                actions.append(("publish", "t", "a", None if rng.random() < 0.15 else _hot_text(rng, hot)))
        if table:
            actions.append(("send", table, 2))
        actions += [("run", at, 60) for at in range(shape.workers["capture"])]
        for _ in range(rng.randint(1, 5)):
            worker = first + rng.randrange(writers)
            if rng.random() < 0.25:
                actions.append(("fault", worker, "dies", rng.choice((1, 2, 3, rng.randint(1, 30))), 1))
            if rng.random() < 0.1:
                actions.append(("expel", worker))
            actions.append(_some(rng, worker))
    return actions


def _hot_text(rng: random.Random, hot: Sequence[str]) -> str:
    return "\n\n".join(rng.sample(hot, rng.randint(1, 3)))


def _some(rng: random.Random, worker: int) -> Action:
    """A writer goes on: some points, or as far as the next call that matters to another."""
    if rng.random() < 0.3:
        return ("run", worker, rng.choice((1, 2, 4, 6, 8, 10, 12, 16, 40)))
    calls = ("write_manifests", "retire", "write_chunks", "manifests", "revive")
    return ("run", worker, 60, rng.choices(calls, (6, 6, 2, 2, 1))[0])


def _rivals(rng: random.Random) -> History:
    """Two writers of one document amid each other's steps, of which one may die there: two lanes, or, in one lane, a
    writer that was taken for dead and goes on beside who does its versions again, and more.

    In one lane no two have a right to one document: there no reader may miss a chunk, not for a moment.
    """
    lanes = rng.random() < 0.4
    shape = Shape(
        partitions=1,
        workers={"capture": 1, "parse": 1, "index": 1 if lanes else 2, "bulk": 1 if lanes else 0},
        batch=rng.choice((2, 4, 8)),
        slice_texts=rng.choice((1, 256)),
        drain=rng.randrange(1 << 30),
    )
    writers = (2, 3)
    hot = rng.sample(WORDS, 3)
    actions: list[Action] = []

    def versions(name: str, most: int) -> list[Action]:
        found = [None if rng.random() < 0.1 else _hot_text(rng, hot) for _ in range(rng.randint(1, most))]
        return [*(("publish", "t", name, text) for text in found), ("run", 0, 200)]

    for number in range(rng.randint(1, 3)):
        name = rng.choice(("a", str(number)))
        if rng.random() < 0.7:
            actions += [*versions(name, 1), *(("run", writer, 60) for writer in writers)]
        slow = rng.choice(writers)
        actions += [*versions(name, 2), _some(rng, slow)]
        if not lanes:
            actions += [("expel", slow), *versions(name, 2)]
        for _ in range(rng.randint(2, 8)):
            if rng.random() < 0.15:
                actions.append(("fault", slow, "dies", rng.choice((1, 2, 3, rng.randint(1, 20))), 1))
            if rng.random() < 0.15:
                actions += versions(name, 1)
            actions.append(_some(rng, rng.choice(writers)))
    return History(shape, actions)


def _change(rng: random.Random, focus: str, poison: bool) -> Action:
    if focus == "none" or rng.random() < 0.2:
        return _document(rng, poison)
    table = rng.choice(("notes", "cards")) if focus == "both" else focus
    key = str(rng.randrange(3))
    kind = rng.choices(
        ("put", "delete", "rekey", "truncate", "snapshot", "connect", "slot", "again", "junk"),
        (12, 4, 2, 2, 1, 2, 1, 1, 0.5),
    )[0]
    match kind:
        case "put":
            return ("put", table, key, _row(rng, poison))
        case "delete":
            return ("delete", table, key)
        case "rekey":
            return ("rekey", table, key, str(rng.randrange(3)))
        case "truncate":
            return ("truncate", table)
        case "connect":
            return ("connect", table, rng.randint(0, 6))
        case "slot":
            return ("slot", table, rng.randint(0, 2))
        case "again":
            return ("again", table, key)
    topic = rng.choice(("cdc.cards.public.cards", "events", "documents", "uploads"))
    return ("junk", topic, rng.randrange(2), rng.randbytes(rng.choice((0, 3, 12))))


def _document(rng: random.Random, poison: bool) -> Action:
    tenant, name = rng.choice("ttu"), rng.choice(("a", "b"))
    kind = rng.random()
    if kind < 0.2:
        return ("publish", tenant, name, None)
    if kind < 0.7:
        return ("publish", tenant, name, _text(rng, poison))
    return ("upload", tenant, name, _text(rng, poison, (UNREADABLE,)))


def _trouble(rng: random.Random) -> Action:
    worker = rng.randrange(8)
    kind = rng.choices(
        ("send", "dies", "fails", "surprises", "kill", "expel", "join", "wait", "sweep"),
        (10, 2, 2, 0.5, 0.5, 1, 1, 1, 0.5),
    )[0]
    match kind:
        case "send":
            return ("send", rng.choice(("notes", "cards")), rng.randint(1, 4))
        case "dies" | "fails" | "surprises":
            times = rng.choice((1, 1, 2, 3, 9)) if kind == "fails" else 1
            return ("fault", worker, kind, rng.randint(1, 25), times)
        case "kill" | "expel":
            return (kind, worker)
        case "join":
            return ("join", rng.randrange(3))
        case "sweep":
            return ("sweep",)
    return ("wait", rng.choice((1, 200, 5_000)))


def _text(rng: random.Random, poison: bool, also: Sequence[str] = ()) -> str:
    sentences = [rng.choice(WORDS) for _ in range(rng.choice((0, 1, 2, 3, 5)))]
    if poison and rng.random() < 0.25:
        word = rng.choice((REFUSED, CRASHING, UNSTORABLE, *also))
        sentences.insert(rng.randint(0, len(sentences)), f"{word} in here.")
    return "\n\n".join(sentences)


def _row(rng: random.Random, poison: bool) -> dict[str, Any]:
    """Columns of an UPDATE: often not the long one."""
    row: dict[str, Any] = {}
    if rng.random() < 0.7:
        row["body"] = _text(rng, poison)
    if rng.random() < 0.3:
        row["title"] = rng.choice(("Heron", "Ibis", None))
    if rng.random() < 0.2:
        row["category"] = rng.choice(("birds", "fish", None))
    if rng.random() < 0.2:
        row["readers"] = rng.choice((["a"], ["a", "b"], None))
    if rng.random() < 0.1:
        row["gone"] = rng.choice(("now", None))
    return row


def _put(world: World, table: str, key: str, row: dict[str, Any]) -> None:
    if table == "notes" and "body" in row:
        # Its rows may be read from the table later than the change: what is refused must not depend on when.
        for word in (REFUSED, CRASHING, UNSTORABLE):
            row = {**row, "body": row["body"].replace(word, "Harmless")}
    world.wait(1)
    world.tables[table].put(key, row)


_ACTIONS: dict[str, Callable[..., None]] = {
    "put": _put,
    "delete": lambda world, table, key: world.tables[table].delete(key),
    "rekey": lambda world, table, old, new: world.tables[table].rekey(old, new),
    "truncate": lambda world, table: world.tables[table].truncate(),
    "snapshot": lambda world, table, unseen: world.first_snapshot(table, unseen),
    "send": lambda world, table, count: world.tables[table].send(count),
    "connect": lambda world, table, back: world.tables[table].crash(back),
    "slot": lambda world, table, unseen: world.tables[table].lose_slot(unseen),
    "again": lambda world, table, key: world.tables[table].read_again(key),
    "publish": World.publish,
    "upload": World.upload,
    "junk": World.junk,
    "run": World.run,
    "fault": lambda world, worker, kind, after, times: world.fault(worker, Fault(kind, after, times)),
    "kill": World.kill,
    "expel": World.expel,
    "join": World.join,
    "wait": World.wait,
    "sweep": World.sweep,
    "finish": World.finish,
}


def quiet() -> None:
    """The stages log every retry: a thousand histories would log for minutes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def told(history: History) -> str:
    """The history as text that can be put into a test."""
    return f"History({history.shape!r}, [\n" + "".join(f"    {action!r},\n" for action in history.actions) + "])"


def shortened(history: History, *, tries: int = 3_000) -> tuple[History, str]:
    """A history that still finds something and from which nothing can be left out; and what it finds."""

    def finds(actions: Sequence[Action]) -> str:
        try:
            run(History(history.shape, actions))
        except Finding as finding:
            return str(finding)
        return ""

    actions = list(history.actions)
    found = finds(actions)
    size = max(1, len(actions) // 2)
    while size and tries > 0:
        at = 0
        while at < len(actions) and tries > 0:
            tries -= 1
            part = actions[:at] + actions[at + size :]
            if text := finds(part):
                actions, found = part, text
            else:
                at += size
        size //= 2
    return History(history.shape, actions), found
