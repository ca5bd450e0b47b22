"""One fault from begin to end: load and reader run, the fault bites, is over, and the product is judged at rest.

Before this: a world and a fault. After this: a row of the table.
"""

from __future__ import annotations

import random
import time
import traceback

from tests.faults import dead_letters
from tests.faults.fault import Bite, Fault, Row
from tests.faults.judge import judge
from tests.faults.reader import Reader
from tests.faults.world import World
from tests.support.client import eventually

_LOG_LINES = 12


def run(fault: Fault, world: World, seed: int) -> Row:
    """Inject one fault under load and judge what came of it. Raises nothing that a fault can cause."""
    rng, row = random.Random(seed * 1000 + fault.number), Row(fault.number, fault.name, seed)
    began = time.monotonic()
    processes = world.processes
    processes.begin()
    world.letters_begin = dead_letters.ends(world.product)
    reader = Reader(world.product, world.load, world.source.spec.name, random.Random(rng.random()), processes.down)
    before = world.load.changes
    reader.start()
    world.load.start(fault.pace_s)
    bite = Bite(0, "it did not bite")
    try:
        eventually(lambda: world.load.changes >= before + 10, 60)
        world.progress()
        bite = fault.inject(world, rng)
        if bite.times < 1:
            row.findings.append("the fault did not bite")
    except Exception as error:  # noqa: BLE001  every failure of a fault is a finding
        row.findings.append(f"while it was being done: {error!r}\n{traceback.format_exc(limit=6)}")
    try:
        world.healing.close()
        world.load.stop()
    except Exception as error:  # noqa: BLE001  as above
        row.findings.append(f"while it was being undone: {error!r}")
    row.bites, row.how, row.changes = bite.times, bite.how, world.load.changes - before
    try:
        judge(world, bite, row, fault.rest_s)
    except Exception as error:  # noqa: BLE001  as above
        row.findings.append(f"while it was being judged: {error!r}\n{traceback.format_exc(limit=6)}")
    reader.stop()
    row.findings += reader.wrong
    row.answers, row.refused = reader.answers, sum(reader.refused.values())
    if not reader.answers:
        row.findings.append("the reader got no answer at all")
    row.ended_by_itself = processes.ended_by_themselves()
    row.log = "\n".join(f"{name}:\n{processes.log_of(name, _LOG_LINES)}" for name in row.ended_by_itself)
    row.took_s = time.monotonic() - began
    return row
