"""The judge: what was accepted, what every reader may see at any moment, and what the index must hold at rest.

Before this: `world.py` tells of every input, write, receipt and dead letter. After this: a finding, or none. Nothing
here asks the product which of two versions is newer: that is what is judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from schemas.index.manifest import BARRIER_PREFIX, newest
from schemas.records import DocumentChange, Receipt, ReceiptStage
from tests.support.fake_index import FakeIndex
from tests.support.oracle import differences, scan_fake

Rank = tuple[int, int, int]
"""Which of two versions of one document the source made later. Compared within a document only."""


class Broken(BaseException):
    """The product broke a promise. No Exception: the stages under test must not catch it."""


@dataclass(frozen=True)
class Accepted:
    """One input as it lies in a topic. document: key, or for an end of a whole source its barrier's name.

    refused: the stage at which this input can never be taken, whatever is tried; why: the reason that its dead letter
    has to give, by which a person finds the cause. told: a receipt is due.
    """

    tenant: str
    position: str
    document: str
    source: str
    rank: Rank
    kind: Literal["text", "gone", "ends"]
    text: str = ""
    refused: Literal["", "capture", "parse", "index"] = ""
    why: str = ""
    told: bool = True


@dataclass
class Judge:
    """Takes notes during a history. stores: by tenant.

    marks_race: two writers may plan on one state (two lanes, or a barrier beside a change in another partition). Then
    the slower one may mark a chunk that the newer version lists, until it or the other looks again and takes the mark
    back: for that moment, which is counted in holes, a reader misses a chunk. He never sees one of another version.
    orphans: objects of writers that died after they had been taken for dead: without a mark until the sweep.
    """

    stores: Mapping[str, FakeIndex]
    inputs: dict[str, list[Accepted]] = field(default_factory=lambda: defaultdict(list))
    ranks: dict[tuple[str, str], Rank] = field(default_factory=dict)
    texts: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    ends: dict[tuple[str, str], list[Rank]] = field(default_factory=lambda: defaultdict(list))
    shown: dict[str, Rank] = field(default_factory=dict)
    promised: dict[str, Rank] = field(default_factory=dict)
    promised_end: dict[tuple[str, str], Rank] = field(default_factory=dict)
    ended: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    parked: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    marks_race: bool = False
    orphans: set[str] = field(default_factory=set)
    looks: int = 0
    holes: int = 0

    # What happens.

    def accept(self, item: Accepted) -> None:
        """An input was accepted."""
        self.inputs[item.position].append(item)

    def captured(self, change: DocumentChange, rank: Rank) -> None:
        """A change lies in `documents`: from now on a reader may come to see it."""
        version = change.position.version
        self.ranks[change.key, version] = rank
        self.texts[change.key, version].add(change.text or "")

    def park(self, position: str, reason: str) -> None:
        """A dead letter was delivered."""
        self.parked[position].append(reason)

    def receipt(self, receipt: Receipt) -> None:
        """A receipt was delivered: from now on readers are held to it."""
        if not receipt.stage.terminal:
            return
        self.ended[receipt.accepted].add(receipt.stage.value)
        if receipt.stage is ReceiptStage.FAILED:
            return
        if receipt.document_id.startswith("source:"):
            where = (receipt.tenant, receipt.source)
            rank = self.ranks[receipt.key, receipt.version]
            self.promised_end[where] = max(self.promised_end.get(where, rank), rank)
            for document in list(self.stores[receipt.tenant].of_document):
                self.look(receipt.tenant, document)
            return
        rank = self.ranks[receipt.key, receipt.version]
        if receipt.stage in (ReceiptStage.INDEXED, ReceiptStage.DELETED):
            self.promised[receipt.key] = max(self.promised.get(receipt.key, rank), rank)
        self.look(receipt.tenant, receipt.key, receipt)

    # What a reader sees, after every single write.

    def look(self, tenant: str, document: str, receipt: Receipt | None = None) -> None:
        """Hold what is shown of a document now against what was shown and promised before."""
        store = self.stores[tenant]
        if document.startswith(BARRIER_PREFIX):
            return
        found = [
            manifest
            for identifier, manifest in store.stored.items()
            if manifest.document == document and identifier not in store.superseded
        ]
        promised = self.promised.get(document)
        if not found:
            # Superseded whole: by the end of its source. A promise of an end is kept thereby.
            if promised is not None and not self._ended_since(tenant, document, promised):
                raise Broken(f"{document}: nothing is there of it, though {promised} was promised")
            return
        self.looks += 1
        newest = max(found, key=lambda manifest: self.ranks[document, manifest.position.version])
        rank = self.ranks[document, newest.position.version]
        if promised is not None and rank < promised and not self._ended_since(tenant, document, promised):
            raise Broken(f"{document}: {rank} is the newest, though a receipt promised {promised}")
        if newest.grave:
            return
        if any(end > rank for end in self._ends(store, newest.origin.source, tenant)):
            return
        promised_end = self.promised_end.get((tenant, newest.origin.source))
        if promised_end is not None and rank < promised_end and newest.position.stream.startswith("cdc/"):
            raise Broken(f"{document}: {rank} is shown after a receipt for the end {promised_end}")
        if promised is not None and rank < promised:
            raise Broken(f"{document}: {rank} is shown after a receipt for {promised}")
        if document in self.shown and rank < self.shown[document]:
            raise Broken(f"{document}: {rank} is shown after {self.shown[document]}")
        self.shown[document] = rank
        self._whole(store, document, newest.position.version, [(s.chunk_id, s.start, s.end) for s in newest.spans])

    def _whole(self, store: FakeIndex, document: str, version: str, spans: list[tuple[str, int, int]]) -> None:
        """What is shown is one version's text, all of it, and nothing else."""
        wrong = ""
        for text in self.texts[document, version]:
            wrong, covered = "", 0
            for identifier, start, end in spans:
                stored = store.chunks.get(identifier)
                if stored is None:
                    wrong = f"chunk at {start} is listed and not there"
                elif stored.retired and not self.marks_race:
                    wrong = f"chunk at {start} is listed and retired"
                elif stored.chunk.text != text[start:end] or stored.chunk.document != document:
                    wrong = f"chunk at {start} is {stored.chunk.text!r}, not {text[start:end]!r}"
                elif text[covered:start].strip():
                    wrong = f"{text[covered:start]!r} is in no chunk"
                covered = end
            if not wrong and text[covered:].strip():
                wrong = f"{text[covered:]!r} is in no chunk"
            if not wrong:
                self.holes += any(store.chunks[identifier].retired for identifier, _, _ in spans)
                return
        raise Broken(f"{document}: version {version} is not whole: {wrong}")

    def _ends(self, store: FakeIndex, source: str, tenant: str) -> list[Rank]:
        """Ranks of the barriers of a source that the store holds now."""
        return [
            self.ranks[f"{tenant}/kb/source:{source}", manifest.position.version]
            for identifier, manifest in store.stored.items()
            if manifest.document.startswith(BARRIER_PREFIX)
            and manifest.origin.source == source
            and identifier not in store.superseded
        ]

    def _ended_since(self, tenant: str, document: str, rank: Rank) -> bool:
        source = document.split("/", 2)[2].partition(":")[0]
        return any(end > rank for end in self._ends(self.stores[tenant], source, tenant))

    # At rest.

    def expected(self) -> dict[str, dict[str, str]]:
        """By tenant, what the index must hold: document key to text."""
        best: dict[tuple[str, str], Accepted] = {}
        ends: dict[tuple[str, str], Rank] = {}
        for item in (item for several in self.inputs.values() for item in several):
            where = (item.tenant, item.source if item.kind == "ends" else item.document)
            if item.refused:
                continue
            if item.kind == "ends":
                ends[where] = max(ends.get(where, item.rank), item.rank)
            elif where not in best or item.rank > best[where].rank:
                best[where] = item
        self.best, self.last_ends = best, ends
        found: dict[str, dict[str, str]] = {tenant: {} for tenant in self.stores}
        for (tenant, document), item in best.items():
            end = ends.get((tenant, item.source))
            if item.kind == "text" and not (item.source and end is not None and end > item.rank):
                found[tenant][document] = item.text
        return found

    @property
    def promises(self) -> int:
        """Receipts that readers were held to."""
        return len(self.promised) + len(self.promised_end)

    def verdict(self, *, swept: bool) -> None:
        """At rest: raise what is found. Only what nobody could have known of may wait for the sweep."""
        orphans = set() if swept else self.orphans
        expected = self.expected()
        for tenant, store in self.stores.items():
            # What a refused version wrote before it was refused stays: a redrive writes the same objects again.
            refused = {(i.document, i.rank) for several in self.inputs.values() for i in several if i.refused}
            scan = scan_fake(store)
            first = newest(scan.manifests)
            best = {manifest.id for manifest in first.values()}
            listed = {identifier for manifest in scan.live_documents().values() for identifier in manifest.chunk_ids}
            # What such a writer's manifest beats, its successor's of the same version, is found by the sweep as well.
            left = {i for m in scan.manifests if first[m.document].id in orphans for i in (m.id, *m.chunk_ids)}
            lost = (orphans | left) - best - listed
            manifests = tuple(manifest for manifest in scan.manifests if manifest.id not in lost)
            chunks = tuple(
                chunk for chunk in scan.chunks if chunk.id not in lost and (chunk.id in listed
                or (chunk.document, self.ranks[chunk.document, store.chunks[chunk.id].chunk.introduced]) not in refused)
            )  # fmt: skip
            if found := differences(replace(scan, manifests=manifests, chunks=chunks), expected[tenant]):
                raise Broken("\n".join(found[:10]))
        for position, items in self.inputs.items():
            self._accounted(position, items)

    def _accounted(self, position: str, items: list[Accepted]) -> None:
        item = items[0]  # of a row that also ends its snapshot, the row
        ended, parked = self.ended.get(position, set()), self.parked.get(position, [])
        if not ended and not parked and item.told:
            raise Broken(f"{position} ({item.document}): accepted, and nothing was ever heard of it")
        if not item.refused:
            if parked or "FAILED" in ended:
                raise Broken(f"{position} ({item.document}): a good input was parked: {parked or ended}")
            if item.told:
                self._right(position, item, ended)
        elif "INDEXED" in ended:
            raise Broken(f"{position} ({item.document}): indexed, though it cannot be")
        elif set(parked) - {item.why}:
            raise Broken(f"{position} ({item.document}): parked for {parked}, not for {item.why}")
        elif not parked and (item.refused != "index" or self._last(item)):
            raise Broken(f"{position} ({item.document}): not parked, though it cannot be taken")

    def _last(self, item: Accepted) -> bool:
        """Nothing came after it that could have made it needless."""
        others = [
            other.rank
            for several in self.inputs.values()
            for other in several
            if other.document == item.document or (other.kind == "ends" and other.source == item.source != "")
        ]
        return item.rank == max(others)

    def _right(self, position: str, item: Accepted, ended: set[str]) -> None:
        end = self.last_ends.get((item.tenant, item.source))
        over = item.source != "" and end is not None and end > item.rank
        if item.kind == "ends":
            wanted, must = {"DELETED"}, "DELETED"
        else:
            newest = self.best[item.tenant, item.document].rank
            must = "" if newest > item.rank or over else ("INDEXED" if item.kind == "text" else "DELETED")
            wanted = {"INDEXED"} if item.kind == "text" else {"DELETED"}
            wanted |= ({"SUPERSEDED"} if newest > item.rank or over else set()) | ({"DELETED"} if over else set())
        if not ended <= wanted or (must and must not in ended):
            raise Broken(f"{position} ({item.document}): receipts {sorted(ended)}, expected {sorted(wanted)}")
