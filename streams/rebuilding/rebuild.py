"""Rebuild by replay: a generation beside the live one is made, held against it, promoted, taken back, removed.

Before this: `commands.py`. After this: `side_workers.py` feeds every generation that is not live from a
consumer group of its own, and the index workers follow the alias. The rule: every generation that exists is kept fresh,
the alias says which one answers, `prune` deletes one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from weaviate.client import WeaviateClient

from runtime.clock import now_ms
from runtime.settings import Embedding
from runtime.topics import Topics
from schemas.index.contract import Generation
from streams import generations
from streams.generations import Standing
from streams.pipeline import index_stages, side_group, stage
from streams.rebuilding.comparison import Comparison, compare, visible_documents

JOIN_S = 600.0
"""How long workers write to both generations for one promotion; if it dies on the way, they stop by themselves."""

SETTLE_S = 3.0
"""A worker sees a changed standing within 1 s, and ends."""

READERS_S = 30.0
"""A reader may still be at the generation that was live so long ago: it knows the alias for 1 s, and asks a few times
for at most 5 s."""

_LOOK_S = 0.5
_TELL_S = 5.0
Offsets = Mapping[tuple[str, int], int]


class RebuildRefused(Exception):
    """It would be wrong to do this now; the text says why, and what to do. Nothing that matters was changed."""


@dataclass(frozen=True)
class GenerationStatus:
    """One generation. state: live, ready (it has read all) or building. lag: records it has not read yet.

    workers: client ids in its group. comparison is None for the live one, and while there is a lag.
    """

    generation: Generation
    state: str
    made_ms: int
    lag: int
    workers: tuple[str, ...]
    documents: int
    comparison: Comparison | None


@dataclass
class Rebuild:
    """What `thalweg rebuild` does. say tells a person how far it is."""

    client: WeaviateClient
    broker: Topics
    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    now_ms: Callable[[], int] = now_ms
    _topics: tuple[str, ...] = field(default_factory=lambda: stage("index").reads)
    _main: tuple[str, ...] = field(default_factory=lambda: tuple(item.group for item in index_stages()))

    def start(self, embedding: Embedding) -> Generation:
        """Make a new generation with this model and this program's chunker.

        Raises EmbeddingMisconfigured, BrokerUnavailable.
        """
        there = generations.standing(self.client)
        salt, made = 1, generations.wanted_generation(embedding)
        # What an earlier generation of the name had read, this one has not: a prune may have died before it forgot it.
        while made.name in there.generations or not self.broker.delete_group(side_group(made.name)):
            salt += 1
            made = generations.wanted_generation(embedding, salt=str(salt))
        generations.create(self.client, made, made_ms=self.now_ms())
        return made

    def promote(self, name: str, *, timeout_s: float) -> None:
        """Let a generation answer. Every step may be repeated, so that one which died on the way is run again.

        1. Wait until its group has read what the main group has, and hold the two generations against each other.
           Death after it: nothing has changed.
        2. Note that it joins: the main groups' workers start anew, and from then on write each change to it before
           they write it to the live one and send the receipt.
           Death after it: they do so for at most JOIN_S, which costs time and harms nothing.
        3. Once all of them are new members of their groups, wait until its own group has read to the end of the topic
           as it was at that moment.
           From here on it holds all that a receipt was ever sent for.
        4. Give the group of the generation that is live the main group's offsets, so that it stays fresh afterwards.
           Death after it: offsets that the next promotion overwrites.
        5. Point the alias at it, in one call. Workers that have not noticed yet write to both.
           Death after it: it is promoted. Side worker and index workers follow by themselves.
        6. Wait until the main group's workers run on it alone.

        Raises RebuildRefused, BrokerUnavailable. timeout_s bounds each wait.
        """
        there = generations.standing(self.client)
        if name == there.live:
            generations.note(self.client, there.live_generation, joining_until_ms=0)
            self.say(f"{name} is live already")
            return
        before = self._switch(there, self._known(there, name), timeout_s)
        generations.note(self.client, there.generations[name], joining_until_ms=0)
        self._until(
            lambda: self._still_there(before),
            timeout_s,
            "index workers to start on it",
            f"{name} is live, but these index workers have not followed",
        )
        self.say(f"live: {name}")

    def rollback(self, *, timeout_s: float) -> str:
        """Promote the generation that was live before; its name. Raises RebuildRefused."""
        there = generations.standing(self.client)
        before = there.lives[there.live].replaced
        if not before:
            raise RebuildRefused(f"{there.live} has replaced no other generation")
        if before not in there.generations:
            raise RebuildRefused(f"{before}, which was live before {there.live}, is gone: it was pruned")
        self.promote(before, timeout_s=timeout_s)
        return before

    def prune(self, name: str) -> None:
        """Delete a generation that is not live, and its group. Raises RebuildRefused."""
        there = generations.standing(self.client)
        if name == there.live:
            raise RebuildRefused(f"{name} is live: promote another generation first")
        life = there.lives[there.live]
        left_ms = life.promoted_ms + int(READERS_S * 1000) - self.now_ms() if life.replaced == name else 0
        if left_ms > 0:
            self.say("waiting for readers that may still be at it")
            self.sleep(min(READERS_S, left_ms / 1000))
            if generations.standing(self.client).live == name:
                raise RebuildRefused(f"{name} went live meanwhile")
        if not generations.remove(self.client, name):
            raise RebuildRefused(f"there is no generation {name}: there are {', '.join(sorted(there.generations))}")
        group = side_group(name)
        self._until(
            lambda: None if self.broker.delete_group(group) else sorted(self.broker.members(group)) or ["it has left"],
            60.0,
            "its worker to end",
            f"{name} is deleted; its group {group} still has members, and is left",
        )

    def status(self, *, comparing: bool = True) -> list[GenerationStatus]:
        """Every generation, the live one first, then by age. comparing: also hold those that are ready against it."""
        there = generations.standing(self.client)
        found = []
        for name in sorted(there.generations, key=lambda n: (n != there.live, there.lives[n].made_ms, n)):
            generation = there.generations[name]
            groups = self._main if name == there.live else (side_group(name),)
            lags = [self.broker.lag(group, self._topics) for group in groups]
            lag = max(sum(self.broker.count_data(item) for item in of_group) for of_group in lags)
            ready = lag == 0 and any(item.committed is not None for of_group in lags for item in of_group)
            state = "live" if name == there.live else "ready" if ready else "building"
            held = None
            if comparing and state == "ready":
                held = compare(self.client, there.live_generation, generation, within_s=5.0)
            found.append(
                GenerationStatus(
                    generation=generation,
                    state=state,
                    made_ms=there.lives[name].made_ms,
                    lag=lag,
                    workers=tuple(sorted(member for group in groups for member in self.broker.members(group))),
                    documents=held.documents_there if held else visible_documents(self.client, generation),
                    comparison=held,
                )
            )
        return found

    def _switch(self, there: Standing, target: Generation, timeout_s: float) -> dict[str, str]:
        """Steps 1 to 5 of promote; the main groups' members at the switch."""
        old, group = there.live_generation, side_group(target.name)
        self._read_to(group, self._committed(max), timeout_s)
        self.say(f"holding {target.name} against {old.name}")
        held = compare(self.client, old, target)
        if not held.agrees:
            shown = "\n".join(f"  {line}" for line in held.differences)
            raise RebuildRefused(f"{held.differing} of {held.documents} documents differ in {target.name}:\n{shown}")
        self.say(f"{held.documents} documents agree; {held.only_there} are in {target.name} only")

        until_ms = self.now_ms() + int(JOIN_S * 1000)
        generations.note(self.client, target, joining_until_ms=until_ms)
        alone = self._members()
        self._until(
            lambda: self._still_there(alone),
            timeout_s,
            "index workers to write to both",
            "these index workers do not write to both",
        )
        # One that read the generations just before the note, and joined just after, ends within a second.
        self.sleep(SETTLE_S)
        self._read_to(group, self.broker.offsets(self._topics), timeout_s)

        self.broker.set_committed(side_group(old.name), self._committed(min))
        now = generations.standing(self.client)
        # Workers stop writing to both at the end of JOIN_S: a promotion that took so long must not go on.
        if self._still_there(alone) or now.live != old.name or self.now_ms() > until_ms - int(JOIN_S * 100):
            raise RebuildRefused("workers or generations changed meanwhile: run it again")
        generations.note(self.client, target, replaced=old.name, promoted_ms=self.now_ms())
        both = self._members()
        generations.point(self.client, target)
        return both

    def _known(self, there: Standing, name: str) -> Generation:
        if name not in there.generations:
            raise RebuildRefused(f"there is no generation {name}: there are {', '.join(sorted(there.generations))}")
        return there.generations[name]

    def _committed(self, chosen: Callable[[list[int]], int]) -> Offsets:
        """How far the main groups have read: of each partition the least, or the most."""
        found: dict[tuple[str, int], list[int]] = {}
        for group in self._main:
            for lag in self.broker.lag(group, self._topics):
                found.setdefault((lag.topic, lag.partition), []).append(lag.committed or 0)
        return {place: chosen(offsets) for place, offsets in found.items()}

    def _members(self) -> dict[str, str]:
        """The main groups' members now: client ids by member id."""
        return {member: told for group in self._main for member, told in self.broker.member_ids(group).items()}

    def _still_there(self, before: Mapping[str, str]) -> list[str]:
        """Those of the members that have not been started anew, by client id."""
        return sorted(told for member, told in self._members().items() if member in before)

    def _read_to(self, group: str, wanted: Offsets, timeout_s: float) -> None:
        """Wait until a group has read that far."""

        def behind() -> list[str]:
            lags = {(lag.topic, lag.partition): lag for lag in self.broker.lag(group, self._topics)}
            left = {
                place: offset - max(lags[place].committed or 0, lags[place].start) for place, offset in wanted.items()
            }
            return [f"{topic}/{partition}: {count} behind" for (topic, partition), count in left.items() if count > 0]

        self._until(behind, timeout_s, f"{group} to catch up", f"{group} has not caught up (is `worker rebuild` up?)")

    def _until(self, left: Callable[[], list[str] | None], timeout_s: float, what: str, failed: str) -> None:
        """Return once nothing is left. Raises RebuildRefused after timeout_s."""
        until, told = self.monotonic() + timeout_s, self.monotonic()
        while rest := left():
            now = self.monotonic()
            if now > until:
                raise RebuildRefused(f"{failed}: {', '.join(rest)}")
            if now >= told:
                self.say(f"waiting for {what}: {', '.join(rest[:8])}")
                told = now + _TELL_S
            self.sleep(_LOOK_S)
