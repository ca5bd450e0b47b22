"""Faults of the source: columns that are not sent, keys that change, tables that are emptied while they are written to.

Before this: `world.py`. After this: `matrix.py`. Slots that are lost or made again have scenarios of their own.
"""

from __future__ import annotations

import random
import time

from tests.faults.fault import Bite
from tests.faults.world import World
from tests.support.client import eventually

PLACEHOLDER = b"__debezium_unavailable_value"
FAR = 20_000


def toast(world: World, rng: random.Random) -> Bite:
    """F25: rows whose body lies out of line get other titles: the connector sends a placeholder for the body."""
    begin = len(world.source.records)
    first = FAR + rng.randrange(10**6) * 100
    for key in range(first, first + 8):
        body = " ".join(f"{rng.getrandbits(64):016x}" for _ in range(1200))
        world.source.execute("INSERT INTO {table} VALUES (%s, 'First', %s)", (key, body))
    for number in range(24):
        key = first + rng.randrange(8)
        world.source.execute("UPDATE {table} SET title = %s WHERE id = %s", (f"Title {number}", key))
        time.sleep(rng.uniform(0, 0.2))
    for key in range(first, first + 2):
        world.source.execute("DELETE FROM {table} WHERE id = %s", (key,))

    def sent() -> int:
        return sum(PLACEHOLDER in value for _, value in world.source.records[begin:])

    eventually(lambda: sent() >= 24, 60)
    return Bite(sent(), f"{sent()} changes came without their body")


def keys_change(world: World, rng: random.Random) -> Bite:
    """F26: rows get other keys, and two rows swap theirs, thirty times over."""
    first = FAR + rng.randrange(10**6) * 100
    for key in range(first, first + 6):
        world.source.execute("INSERT INTO {table} VALUES (%s, 'Key', %s)", (key, f"Row {key}, {rng.getrandbits(64)}."))
    for number in range(30):
        one, other = rng.sample(range(first, first + 6), 2)
        if number % 2:
            world.source.execute("UPDATE {table} SET id = %s WHERE id = %s", (first + 10 + number, one))
            world.source.execute("UPDATE {table} SET id = %s WHERE id = %s", (one, first + 10 + number))
        else:
            # One transaction: nobody ever sees a row twice.
            with world.source.session.transaction():
                for old, new in ((one, first + 99), (other, one), (first + 99, other)):
                    world.source.execute("UPDATE {table} SET id = %s WHERE id = %s", (new, old))
        time.sleep(rng.uniform(0, 0.1))
    return Bite(30, "15 changes of key and back, 15 swaps")


def truncated(world: World, rng: random.Random) -> Bite:
    """F27: the table is emptied three times among the writes."""
    for _ in range(3):
        world.progress("capture")
        time.sleep(rng.uniform(0, 1))
        world.source.execute("TRUNCATE {table}")
        world.load.look()
        world.progress()
    return Bite(3, "emptied 3 times")


def columns_change(world: World, rng: random.Random) -> Bite:
    """F29: columns nobody asked for come, change their type, change their name and go, among the writes."""
    steps = (
        "ALTER TABLE {table} ADD COLUMN note text DEFAULT 'none'",
        "UPDATE {table} SET note = 'said'",
        "ALTER TABLE {table} ALTER COLUMN note TYPE varchar(200)",
        "ALTER TABLE {table} RENAME COLUMN note TO remark",
        "UPDATE {table} SET remark = 'said again'",
        "ALTER TABLE {table} DROP COLUMN remark",
    )
    for step in steps:
        world.progress("capture")
        time.sleep(rng.uniform(0, 1))
        world.source.execute(step)
    world.progress()
    return Bite(len(steps), "a column added, changed, renamed and dropped")
