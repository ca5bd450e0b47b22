"""VectorLog on the topic `embeddings`: every vector of one model, followed into a SQLite file of the worker's own.

Before this: index workers publish each vector they compute. After this: the index step asks here before it asks the
model, so that another generation of the same model, or a Weaviate that was lost, is filled without one call. The file
is derived data: one that is damaged, of another model or of a topic that is gone is deleted and made anew.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import structlog

from runtime.topic_tail import TopicTail
from runtime.topics import Topics
from schemas.codec import Codec
from schemas.records import Embedding
from streams.ports import Vector

log = structlog.get_logger()

TOPIC = "embeddings"
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS progress (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS vectors (tenant TEXT, text_hash TEXT, vector BLOB NOT NULL, PRIMARY KEY (tenant, text_hash));
"""
_FORMAT = "1"
_MEMORY_KIB = 8192
_COMMIT_RECORDS = 500
_COMMIT_S = 1.0
_ASKED_AT_ONCE = 500
_LOOK_S = 0.05
_UNUSED_S = 7 * 86_400.0
"""A file that nobody wrote to for so long belongs to a worker that is gone."""


@dataclass(frozen=True)
class Patience:
    """How long `vectors` waits, in seconds without news; 0: not at all.

    history: for the topic to be read to its end once, by a worker that replays everything.
    others: for a vector that another worker of the same model is about to compute for the same change.
    """

    history: float = 0.0
    others: float = 0.0


class KafkaVectorLog:
    """Thread-safe. model is ModelFingerprint.key(); file is this worker's alone. `start` it before use."""

    def __init__(
        self,
        bootstrap: str,
        codec: Codec,
        file: Path,
        *,
        model: str,
        dimension: int,
        patience: Patience | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bootstrap, self._codec, self._file = bootstrap, codec, file
        self._model, self._dimension = model, dimension
        self._patience = patience or Patience()
        self._monotonic = monotonic
        self._broker = Topics(bootstrap)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._database: sqlite3.Connection | None = None
        self._tail: TopicTail | None = None
        self._damaged = False
        self._read = self._uncommitted = 0
        self._committed_at = 0.0

    def start(self) -> None:
        """Open the file, go on where it stands. Raises BrokerUnavailable."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        _remove_unused(self._file)
        topic = self._broker.identity(TOPIC) or ""
        starts = self._broker.offsets([TOPIC], earliest=True)
        ends = self._broker.offsets([TOPIC])
        try:
            database, progress = self._open(topic)
        except sqlite3.DatabaseError as error:
            log.warning("vector_log_damaged", file=str(self._file), reason=str(error))
            _delete(self._file)
            database, progress = self._open(topic)
        if any(not starts.get((TOPIC, p), 0) <= at <= ends.get((TOPIC, p), 0) for p, at in progress.items()):
            log.warning("vector_log_starts_anew", file=str(self._file), reason="its offsets are not in the topic")
            database.close()
            _delete(self._file)
            database, progress = self._open(topic)
        self._database, self._damaged = database, False
        self._committed_at = self._monotonic()
        self._tail = TopicTail(self._bootstrap, TOPIC, self._take, start_at=progress)
        self._tail.start()

    def close(self) -> None:
        """Stop following, and write down how far it came."""
        self._stopping.set()
        self._end()

    def vectors(self, tenant: str, text_hashes: Collection[str]) -> dict[str, Vector]:
        """As VectorLog.vectors. What is damaged is made anew meanwhile, and answers with less."""
        if self._damaged:
            self._end()
            _delete(self._file)
            self.start()
        if self._patience.history:
            self._wait_for_history()
        found = self._find(tenant, text_hashes)
        missing = [hashed for hashed in text_hashes if hashed not in found]
        until = self._monotonic() + self._patience.others
        while missing and self._monotonic() < until and not self._stopping.wait(_LOOK_S):
            came = self._find(tenant, missing)
            if came:
                found |= came
                missing = [hashed for hashed in missing if hashed not in came]
                until = self._monotonic() + self._patience.others
        return found

    def keep(self, computed: Collection[Embedding]) -> None:
        """Take vectors of this model that were computed here: no need to wait until they come back from Kafka."""
        for item in computed:
            if item.model == self._model:
                self._put(item.tenant, item.text_hash, item.vector)

    def _wait_for_history(self) -> None:
        """Return once the topic was read to its end, or if nothing more has come for as long as the patience lasts."""
        assert self._tail is not None  # noqa: S101  start came first
        seen = -1
        while not self._tail.caught_up and not self._stopping.is_set():
            if self._read == seen:
                log.warning("vector_log_not_read", records=self._read, waited_s=self._patience.history)
                return
            seen = self._read
            log.info("vector_log_reading", records=seen)
            until = self._monotonic() + self._patience.history
            while self._read == seen and self._monotonic() < until and not self._stopping.is_set():
                if self._tail.wait_caught_up(_LOOK_S * 10):
                    return

    def _open(self, topic: str) -> tuple[sqlite3.Connection, dict[int, int]]:
        """The file's connection, and the next offset of each partition; emptied if it is about something else."""
        about = {"format": _FORMAT, "model": self._model, "dimension": str(self._dimension), "topic": topic}
        database = sqlite3.connect(self._file, timeout=10.0, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(f"PRAGMA cache_size=-{_MEMORY_KIB}")
            database.executescript(_TABLES)
            with database:
                if dict(database.execute("SELECT name, value FROM about")) != about:
                    for table in ("about", "progress", "vectors"):
                        database.execute(f"DELETE FROM {table}")  # noqa: S608  three names of our own
                    database.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            return database, dict(database.execute("SELECT partition, next FROM progress"))
        except sqlite3.DatabaseError:
            database.close()
            raise

    def _end(self) -> None:
        if self._tail is not None:
            self._tail.close()
        with self._lock:
            if self._database is not None:
                try:
                    self._database.commit()
                except sqlite3.DatabaseError as error:
                    self._spoiled(error)
                self._database.close()
                self._database = None

    def _find(self, tenant: str, text_hashes: Collection[str]) -> dict[str, Vector]:
        found: dict[str, Vector] = {}
        left = iter(text_hashes)
        while part := list(islice(left, _ASKED_AT_ONCE)):
            marks = ",".join("?" * len(part))
            query = f"SELECT text_hash, vector FROM vectors WHERE tenant = ? AND text_hash IN ({marks})"  # noqa: S608
            with self._lock:
                if self._database is None:
                    return found
                try:
                    rows = self._database.execute(query, [tenant, *part]).fetchall()
                except sqlite3.DatabaseError as error:
                    self._spoiled(error)
                    return found
            for text_hash, blob in rows:
                vector = np.frombuffer(blob, dtype="<f4").astype(np.float32)
                if vector.shape == (self._dimension,) and np.isfinite(vector).all():
                    found[text_hash] = vector
        return found

    def _take(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """One record of the topic; in the same transaction, that it was read."""
        tenant, model, text_hash = ("", "", *(key or b"").decode("utf-8", "replace").rsplit("/", 2))[-3:]
        if model == self._model:
            if value is None:
                self._forget(tenant, text_hash)
            else:
                self._put(tenant, text_hash, self._codec.decode(value, Embedding).vector)
        self._read += 1
        with self._lock:
            if self._database is None:
                return
            try:
                self._database.execute("INSERT OR REPLACE INTO progress VALUES (?, ?)", (partition, offset + 1))
                self._uncommitted += 1
                now = self._monotonic()
                if self._uncommitted >= _COMMIT_RECORDS or now - self._committed_at > _COMMIT_S:
                    self._database.commit()
                    self._uncommitted, self._committed_at = 0, now
            except sqlite3.DatabaseError as error:
                self._spoiled(error)

    def _put(self, tenant: str, text_hash: str, vector: bytes) -> None:
        if len(vector) != 4 * self._dimension:
            log.warning("vector_of_wrong_size", bytes=len(vector), dimension=self._dimension)
            return
        self._write("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", tenant, text_hash, vector)

    def _forget(self, tenant: str, text_hash: str) -> None:
        self._write("DELETE FROM vectors WHERE tenant = ? AND text_hash = ?", tenant, text_hash)

    def _write(self, statement: str, *values: str | bytes) -> None:
        with self._lock:
            if self._database is None:
                return
            try:
                self._database.execute(statement, values)
            except sqlite3.DatabaseError as error:
                self._spoiled(error)

    def _spoiled(self, error: sqlite3.DatabaseError) -> None:
        """The next question makes the file anew; until then it answers with what can be read."""
        if not self._damaged:
            log.warning("vector_log_damaged", file=str(self._file), reason=str(error))
        self._damaged = True


def _delete(file: Path) -> None:
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        (file.parent / name).unlink(missing_ok=True)


def _remove_unused(mine: Path) -> None:
    """Delete the files of workers that are gone. One that is open and idle loses no more than its next start."""
    for file in mine.parent.glob("*.sqlite"):
        newest = max((part.stat().st_mtime for part in mine.parent.glob(f"{file.name}*")), default=0.0)
        if file != mine and time.time() - newest > _UNUSED_S:
            _delete(file)
