"""The mutants, as data: each breaks one thing that keeps documents from being lost, doubled, stale or mixed.

Before this: `kill.py` says what a mutant is. After this: `__main__.py` tries them. A mutant that no longer fits its
file fails a test: change it with the code.
"""

from __future__ import annotations

from tests.mutation.kill import Mutant

_RECORDS = "schemas/records.py"
_MANIFEST = "schemas/index/manifest.py"
_VERSIONS = "streams/core/versions.py"
_COMMIT = "streams/steps/commit.py"
_INDEX = "streams/steps/index.py"
_VECTORS = "streams/steps/vectors.py"
_CAPTURE = "streams/steps/capture.py"
_PARSE = "streams/steps/parse.py"
_CHANGES = "streams/core/changes.py"
_RUNNER = "streams/adapters/runner.py"
_OUTBOX = "streams/adapters/outbox.py"
_WEAVIATE = "streams/adapters/weaviate_index.py"

_UNIT_CHANGES = ("tests/unit/streams/test_changes.py",)
_UNIT_LOOP = ("tests/unit/streams/test_loop.py",)
_SLICES = ("tests/property/test_index_slices.py",)
_STORE = ("tests/integration/test_index_store.py",)

_NUMBERS = "return (self.epoch, self.phase, self.major) > (other.epoch, other.phase, other.major)"

ORDERING = (
    Mutant(
        "epoch-ignored",
        _RECORDS,
        _NUMBERS,
        "return (self.phase, self.major) > (other.phase, other.major)",
        "after a lost slot, old rows beat the new snapshot",
    ),
    Mutant(
        "phase-ignored",
        _RECORDS,
        _NUMBERS,
        "return (self.epoch, self.major) > (other.epoch, other.major)",
        "a snapshot row beats a change whose transaction it did not see",
    ),
    Mutant(
        "phase-after-lsn",
        _RECORDS,
        _NUMBERS,
        "return (self.epoch, self.major, self.phase) > (other.epoch, other.major, other.phase)",
        "as above",
    ),
    Mutant(
        "equal-is-newer",
        _RECORDS,
        _NUMBERS,
        "return (self.epoch, self.phase, self.major) >= (other.epoch, other.phase, other.major)",
        "a snapshot's last row is ended by its own barrier",
    ),
    Mutant(
        "arrival-decides",
        _RECORDS,
        _NUMBERS,
        "return True",
        "whatever comes last wins: redelivery brings old versions back",
    ),
    Mutant(
        "time-between-streams-ignored",
        _RECORDS,
        "return (self.at_ms, self.stream) > (other.at_ms, other.stream)",
        "return self.stream > other.stream",
        "an upload beats every event, however old",
    ),
    Mutant(
        "no-order-in-one-millisecond",
        _RECORDS,
        "return (self.at_ms, self.stream) > (other.at_ms, other.stream)",
        "return self.at_ms > other.at_ms",
        "of two streams in one millisecond, whichever comes first wins",
    ),
    Mutant(
        "version-without-epoch",
        _RECORDS,
        'return f"{self.stream}@{self.epoch:04d}.{self.phase}.{self.major:020d}"',
        'return f"{self.stream}@{self.phase}.{self.major:020d}"',
        "versions of two epochs have one name, and one manifest",
    ),
    Mutant(
        "version-without-phase",
        _RECORDS,
        'return f"{self.stream}@{self.epoch:04d}.{self.phase}.{self.major:020d}"',
        'return f"{self.stream}@{self.epoch:04d}.{self.major:020d}"',
        "a snapshot row and a change of one LSN have one manifest",
    ),
)

MANIFEST = (
    Mutant(
        "first-manifest-wins",
        _MANIFEST,
        "if known is None or manifest.position.newer_than(known.position):",
        "if known is None:",
        "the order of an answer decides which version is newest",
    ),
    Mutant(
        "oldest-manifest-wins",
        _MANIFEST,
        "if known is None or manifest.position.newer_than(known.position):",
        "if known is None or known.position.newer_than(manifest.position):",
        "updates vanish",
    ),
    Mutant(
        "barriers-end-nothing",
        _MANIFEST,
        "or not barrier.position.newer_than(manifest.position)",
        "or True",
        "a late older row is shown after a TRUNCATE",
    ),
    Mutant(
        "barriers-end-everything",
        _MANIFEST,
        "or not barrier.position.newer_than(manifest.position)",
        "or False",
        "rows written after a TRUNCATE are not shown",
    ),
    Mutant(
        "graves-live",
        _MANIFEST,
        "if manifest is None or manifest.grave:",
        "if manifest is None:",
        "a deleted document counts as one without text",
    ),
    Mutant(
        "one-manifest-for-all-versions",
        _MANIFEST,
        'return object_id(self.document, "manifest", self.position.version)',
        'return object_id(self.document, "manifest")',
        "a writer that wakes up late overwrites the newest version",
    ),
    Mutant(
        "one-barrier-for-all-sources",
        _MANIFEST,
        'return f"{BARRIER_PREFIX}{source}"',
        "return BARRIER_PREFIX",
        "the barrier of one source hides another's",
    ),
)

VERSIONS = (
    Mutant(
        "beaten-versions-are-written",
        _VERSIONS,
        "(c for c in changes if known is None or c.position.newer_than(known.position))",
        "(c for c in changes)",
        "redelivery writes old versions again",
    ),
    Mutant(
        "batch-order-is-arrival",
        _VERSIONS,
        "return lambda change: sum(change.position.newer_than(other.position) for other in changes)",
        "return lambda change: 0",
        "of a batch, the version that came last wins",
    ),
    Mutant(
        "chunk-id-without-version",
        _VERSIONS,
        "identifier = chunk_id(change.key, hashed, change.position.version)",
        'identifier = chunk_id(change.key, hashed, "")',
        "a chunk that left and came back is retired by who saw it leave",
    ),
    Mutant(
        "chunk-id-without-document",
        _VERSIONS,
        "identifier = chunk_id(change.key, hashed, change.position.version)",
        'identifier = chunk_id("", hashed, change.position.version)',
        "one document's chunk is the other's",
    ),
    Mutant(
        "empty-is-deleted",
        _VERSIONS,
        "grave = change.operation is not Operation.UPSERT",
        "grave = True",
        "a document without text counts as deleted",
    ),
)

INDEX = (
    Mutant(
        "barriers-not-raised",
        _INDEX,
        "            self._raise_barrier(change)\n",
        "            pass\n",
        "TRUNCATE ends nothing",
    ),
    Mutant(
        "barriers-not-stored",
        _INDEX,
        "        self.index.write_manifests(change.tenant, [barrier])\n",
        "",
        "an older row that comes after the TRUNCATE is shown",
    ),
    Mutant(
        "ended-changes-are-written",
        _INDEX,
        "return (\n        barrier is not None\n        and",
        "return (\n        False\n        and",
        "an older row that comes after the TRUNCATE is written, and never marked",
    ),
    Mutant(
        "failure-is-done",
        _INDEX,
        "return dict.fromkeys(changes, Retry(str(error), error.after_s))",
        'return dict.fromkeys(changes, Done("done"))',
        "what the store did not take is acknowledged",
    ),
    Mutant(
        "busy-model-is-done",
        _INDEX,
        "return dict.fromkeys(changes, Retry(str(error), error.retry_after))",
        'return dict.fromkeys(changes, Done("done"))',
        "what the model did not take is acknowledged",
    ),
    Mutant(
        "unreadable-is-ignored",
        _INDEX,
        'outcomes[at] = Rejected("undecodable", str(error))',
        'outcomes[at] = Done("ignored")',
        "a record that nobody can read vanishes",
    ),
    Mutant(
        "neighbours-share-a-fate",
        _INDEX,
        "        if len(changes) == 1:\n            return dict.fromkeys(changes, failure)\n",
        "        return dict.fromkeys(changes, failure)\n",
        "one bad document takes its batch along",
    ),
    Mutant(
        "versions-share-a-fate",
        _INDEX,
        "            alone = [self._settle(tenant, {at: change}) for at, change in changes.items()]\n",
        "            return dict.fromkeys(changes, failure)\n            alone = []\n",
        "one bad version takes the good one before it along",
    ),
    Mutant(
        "refused-take-neighbours",
        _INDEX,
        "refused = {at for at, c in changes.items() if error.versions.get(c.key) == c.position.version}",
        "refused = set(changes)",
        "a text that the model refuses takes its batch along",
    ),
    Mutant(
        "superseded-is-called-indexed",
        _INDEX,
        "            return ReceiptStage.SUPERSEDED\n",
        "            return ReceiptStage.INDEXED\n",
        "a receipt promises what is not there",
    ),
    Mutant(
        "receipt-for-another-input",
        _INDEX,
        "accepted=change.origin.receipt_position,",
        "accepted=change.origin.ref,",
        "who waits for an input waits for ever",
    ),
)

VECTORS = (
    Mutant(
        "vectors-permuted",
        _VECTORS,
        "zip(left, result.vectors, strict=True)",
        "zip(left, result.vectors[::-1], strict=True)",
        "texts get each other's vectors",
    ),
    Mutant(
        "embedded-again",
        _VECTORS,
        "missing = [hashed for hashed in texts if hashed not in vectors and hashed not in computed]",
        "missing = list(texts)",
        "texts that the index holds are paid for again",
    ),
    Mutant(
        "spare-forgotten",
        _VECTORS,
        "if hashed not in vectors and (self.tenant, hashed) in self.spare",
        "if False",
        "a batch that is handed in again is paid for again",
    ),
    Mutant(
        "refused-texts-are-not-named",
        _VECTORS,
        "raise TextsRefused(refused, next(iter(refused.values())))",
        "pass",
        "a refused text has no vector, and its batch fails for ever",
    ),
)

CAPTURE = (
    Mutant(
        "placeholder-is-text",
        _CHANGES,
        "        if _is_unavailable(value):\n",
        "        if False:\n",
        "the placeholder of an unchanged long column is indexed",
    ),
    Mutant(
        "streamed-is-snapshot",
        _CHANGES,
        '0 if operation == "r" else 1',
        "0",
        "snapshot rows beat changes that they did not see",
    ),
    Mutant(
        "soft-deletion-ignored",
        _CHANGES,
        "if spec.deleted is not None:",
        "if False:",
        "a row marked as deleted is shown",
    ),
    Mutant(
        "every-event-is-one-version",
        _CHANGES,
        'Position(f"events/{origin.partition}", 1, origin.offset, 0, timestamp_ms)',
        'Position(f"events/{origin.partition}", 1, 0, 0, timestamp_ms)',
        "the first event of a document is its last",
    ),
    Mutant(
        "null-before-is-believed",
        _CHANGES,
        "and (row.before is None or row.before.get(column) is None or _is_unavailable(row.before[column]))",
        "and row.before is None",
        "a key-only `before` makes a long column empty",
        _UNIT_CHANGES,
    ),
    Mutant(
        "epoch-not-read",
        _CAPTURE,
        "epoch = int(record.header(EPOCH_HEADER) or 1)",
        "epoch = 1",
        "after a lost slot nothing new counts",
    ),
    Mutant(
        "row-not-fetched",
        _CAPTURE,
        "fetched = self._fetch(spec, row) if unavailable_columns(spec, row) else None",
        "fetched = None",
        "an update of a short column beside a long one is parked",
    ),
    Mutant(
        "snapshot-ends-nothing",
        _CAPTURE,
        "        if row.ends_snapshot:\n",
        "        if False:\n",
        "rows of a snapshot that was cut off stay, though deleted since",
    ),
    Mutant(
        "capture-failure-is-done",
        _CAPTURE,
        "return dict.fromkeys(changes, Retry(str(error), error.after_s))",
        "return {}",
        "changes that the broker did not take are acknowledged",
    ),
    Mutant(
        "parse-failure-is-done",
        _PARSE,
        "return Rejected(result.reason, result.detail)",
        'return Done("parsed")',
        "a file that cannot be read vanishes",
    ),
)

LOOP = (
    Mutant(
        "unsettled-is-let-go",
        _RUNNER,
        "                    left.append(record)\n",
        "                    pass\n",
        "the first failure loses the record",
    ),
    Mutant(
        "rejected-is-not-parked",
        _RUNNER,
        "            case Rejected():\n                return await self._park(record, outcome)\n",
        "            case Rejected():\n                return outcome\n",
        "what is refused vanishes",
    ),
    Mutant(
        "waiting-has-an-end",
        _RUNNER,
        "if not limited or tries + 1 < self.attempts:",
        "if tries + 1 < self.attempts:",
        "a store that is away for long drains the topic into the dead letters",
    ),
    Mutant(
        "dead-letter-not-confirmed",
        _RUNNER,
        'return Retry(f"dead letter not delivered: {error}")',
        "return outcome",
        "a record is let go that is neither done nor parked",
    ),
    Mutant(
        "wait-shorter-than-asked",
        _RUNNER,
        "await self.sleep(max(pause, backoff))",
        "await self.sleep(backoff)",
        "a server that asked for peace gets none",
        _UNIT_LOOP,
    ),
    Mutant(
        "no-limit-on-dead-letters",
        _RUNNER,
        "if len(self._parked) > self.dead_letters_per_minute:",
        "if False:",
        "a bad deploy drains a topic into the dead letters",
        _UNIT_LOOP,
    ),
    Mutant(
        "send-failure-is-permanent",
        _OUTBOX,
        "            if error.retriable:\n",
        "            if False:\n",
        "a broker that is away for a moment parks everything",
    ),
)

STORE = (
    Mutant(
        "object-results-not-read",
        _WEAVIATE,
        "            if answer.has_errors:\n",
        "            if False:\n",
        "a chunk that the store did not take is lost",
        _STORE,
    ),
    Mutant(
        "vectors-not-looked-at",
        _WEAVIATE,
        "if vector.shape != (self._generation.dimension,) or not np.isfinite(vector).all():",
        "if False:",
        "a vector that is not finite is stored",
        _STORE,
    ),
    Mutant(
        "retired-are-found",
        _WEAVIATE,
        '& Filter.by_property("retired").equal(False)',
        '& Filter.by_property("retired").equal(True)',
        "objects that no manifest lists stay for ever",
        _STORE,
    ),
    Mutant(
        "superseded-come-back",
        _WEAVIATE,
        'Filter.by_property("document").contains_any(part) & Filter.by_property("superseded").equal(False)',
        'Filter.by_property("document").contains_any(part)',
        "work grows with every version that ever was",
        _STORE,
    ),
    Mutant(
        "missing-is-an-error",
        _WEAVIATE,
        'if error.reason != "not_found":',
        "if True:",
        "a mark on an object that is not there holds a partition for ever",
        _STORE,
    ),
    Mutant(
        "barrier-reaches-all-streams",
        _WEAVIATE,
        "if manifest.position.stream == barrier.stream and barrier.newer_than(manifest.position):",
        "if True:",
        "the end of a source takes newer documents along",
        _STORE,
    ),
)

MUTANTS: tuple[Mutant, ...] = (
    *ORDERING, *MANIFEST, *VERSIONS, *INDEX, *VECTORS, *CAPTURE, *LOOP, *STORE,
)  # fmt: skip
