"""What the product is fed while it is being broken: rows, published documents and files, in a thread. Seeded.

Before this: `random_writes.py`. After this: the judge holds the index against what was accepted. Everything that is
refused is tried again, unchanged, until it is accepted: what should be indexed is then known exactly.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable

import httpx
import psycopg

from tests.faults.random_writes import RandomWrites
from tests.support.product import Product
from tests.support.source import TableSource

ACCEPT_S = 90.0
DOCUMENTS = 20


class Load:
    """Writes from `start` to `stop`. `published` is what the API accepted last, by document; None: deleted."""

    def __init__(self, product: Product, source: TableSource, rng: random.Random) -> None:
        self._product, self._source, self._rng = product, source, rng
        self._writes = RandomWrites(source, rng)
        self.base = source.spec.knowledge_base
        self.published: dict[str, str | None] = {}
        self.positions: list[str] = []
        self.files: dict[str, str] = {}
        self.refused = 0
        self.failure: BaseException | None = None
        self._sent: dict[str, list[str]] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._done = 0

    @property
    def changes(self) -> int:
        """How many changes were accepted in all."""
        return self._done

    def start(self, pace_s: float) -> None:
        """Begin to write, a change every `pace_s` on average."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, args=(pace_s,), name="load", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the change in hand. Raises what ended the load before its time."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(ACCEPT_S + 30)
            assert not self._thread.is_alive(), "the load does not end"
            self._thread = None
        failure, self.failure = self.failure, None
        if failure is not None:
            raise AssertionError(f"the load ended: {failure!r}") from failure

    def look(self) -> None:
        """Take from the table which rows there are: after a change that was not the load's."""
        self._writes.look()

    def publish(self, name: str, text: str) -> None:
        """Publish one more document, from any thread; no other thread may use this name."""
        self._accepted(lambda: self._put(name, text))
        self.published[name] = text

    def versions(self, document: str) -> list[str]:
        """Every text that a document of the load's may have had; empty for another's."""
        source, _, key = document.partition(":")
        if source == self._source.spec.name and key.isdigit():
            return list(self._writes.written.get(int(key), ()))
        return list(self._sent.get(document, ()))

    def texts(self) -> dict[str, str]:
        """What the index should hold of published documents and files, document id to text."""
        return {name: text for name, text in self.published.items() if text is not None} | self.files

    def _run(self, pace_s: float) -> None:
        try:
            while not self._stopping.is_set():
                draw = self._rng.random()
                if draw < 0.7:
                    self.until_taken(self._row)
                elif draw < 0.97:
                    self._publish()
                else:
                    self._upload()
                self._done += 1
                self._stopping.wait(self._rng.uniform(0, 2 * pace_s))
        except BaseException as error:  # noqa: BLE001  told by stop()
            self.failure = error

    def _row(self) -> None:
        try:
            self._writes.one()
        except psycopg.errors.IntegrityError:
            self._writes.look()  # it was committed, though nobody could say so at the time
            raise
        except psycopg.OperationalError:
            self._source.reconnect()
            self._writes.look()
            raise

    def _publish(self) -> None:
        name = f"published-{self._rng.randrange(DOCUMENTS)}"
        if self.published.get(name) is not None and self._rng.random() < 0.25:
            params = {"knowledge_base": self.base}
            self._accepted(lambda: self._product.client.ingest.delete(f"/v1/documents/{name}", params=params))
            self.published[name] = None
            return
        text = self._writes.text()
        self._sent.setdefault(name, []).append(text)
        self._accepted(lambda: self._put(name, text))
        self.published[name] = text

    def _put(self, name: str, text: str) -> httpx.Response:
        body = {"text": text, "knowledge_base": self.base}
        return self._product.client.ingest.put(f"/v1/documents/{name}", json=body)

    def _upload(self) -> None:
        word = self._writes.words()
        name = f"file-{len(self.files)}-{self._rng.randrange(10**6)}.txt"
        headers, data = (
            {"Idempotency-Key": str(uuid.UUID(int=self._rng.getrandbits(128)))},
            {
                "knowledge_base": self.base,
                "document_id": name,
            },
        )
        self._accepted(
            lambda: self._product.client.ingest.post(
                "/v1/uploads", files={"file": (name, word.encode())}, data=data, headers=headers
            )
        )
        self.files[name] = word

    def _accepted(self, send: Callable[[], httpx.Response]) -> None:
        """Send it until it is accepted; refusals must be honest ones."""

        def take() -> None:
            answered = send()
            if answered.status_code in (429, 503) or (
                answered.status_code == 409 and "retry-after" in answered.headers
            ):
                assert "retry-after" in answered.headers, f"no Retry-After: {answered.text}"
                raise ConnectionRefusedError(answered.text)
            assert answered.status_code == 202, f"{answered.status_code}: {answered.text}"
            self.positions.append(str(answered.json()["position"]))

        self.until_taken(take)

    def until_taken(self, work: Callable[[], None]) -> None:
        """Do it again until nothing is away any more; fails after ACCEPT_S."""
        deadline = time.monotonic() + ACCEPT_S
        while True:
            try:
                work()
                return
            except (psycopg.Error, httpx.TransportError, ConnectionRefusedError) as error:
                self.refused += 1
                if time.monotonic() > deadline:
                    raise AssertionError(f"not accepted within {ACCEPT_S:g} s: {error!r}") from error
                time.sleep(0.2 + 0.3 * self._rng.random())
