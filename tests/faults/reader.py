"""Somebody who keeps asking while the product is being broken and believes every answer: a wrong one is a finding.

Before this: the query API. After this: the driver's row. What must never happen: hits of one document that carry two
versions; a version older than one this reader has seen, or than one whose receipt came before the question; a deleted
document after its receipt; an error that is not an honest one.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import httpx

from runtime.topic_tail import TopicTail
from schemas.records import Receipt
from tests.faults.beliefs import Beliefs, Floor
from tests.faults.load import DOCUMENTS, Load
from tests.support.product import Product

ANSWER_S = 20.0
_MODES = ("keyword", "keyword", "hybrid", "vector")


class Reader:
    """Asks from `start` to `stop`; `wrong` is what must not have been answered.

    down: names of processes that a fault has hurt: only while "query" is among them may it be unreachable.
    """

    def __init__(self, product: Product, load: Load, source: str, rng: random.Random, down: Collection[str]) -> None:
        self._product, self._base, self._source, self._rng, self._down = product, load.base, source, rng, down
        self._beliefs = Beliefs(load.base, load.versions)
        self._receipts = TopicTail(
            product.settings.kafka.bootstrap, "receipts", self._take, since_ms=int(time.time() * 1000) - 500
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self.answers = 0
        self.refused: Counter[str] = Counter()
        self.slowest_refusal_s = 0.0
        client = product.client
        self._http = httpx.Client(
            base_url=client.query.base_url, headers=client.query.headers, timeout=ANSWER_S, trust_env=False
        )

    @property
    def wrong(self) -> list[str]:
        """What must not have been answered."""
        return self._beliefs.wrong

    def start(self) -> None:
        """Begin to ask."""
        self._receipts.start()
        self._thread.start()

    def stop(self) -> None:
        """Finish the question in hand."""
        self._stopping.set()
        self._thread.join(ANSWER_S + 10)
        self._receipts.close()
        self._http.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            floor = self._beliefs.floor()
            try:
                if self._rng.random() < 0.7:
                    self._search(floor)
                else:
                    self._document(floor)
            except httpx.TransportError as error:
                self.refused[type(error).__name__] += 1
                if "query" not in self._down:
                    self._beliefs.note(f"the query API, which nobody touched, did not answer: {error!r}")
                self._stopping.wait(0.3)
            except Exception as error:  # noqa: BLE001  a reader that dies would find nothing any more
                self._beliefs.note(f"an answer that cannot be read: {error!r}")
            self._stopping.wait(0.05)

    def _search(self, floor: Floor) -> None:
        query = f"Paragraph {self._rng.randrange(40)} " + self._rng.choice(("river gravel", "harbour", "engine valley"))
        body = {"query": query, "knowledge_bases": [self._base], "limit": 60, "mode": self._rng.choice(_MODES)}
        answered = self._ask("POST", "/v1/search", json=body)
        if answered is None:
            return
        self._beliefs.hits(answered.json()["hits"], floor)

    def _document(self, floor: Floor) -> None:
        document = (
            f"{self._source}:{self._rng.randrange(60)}"
            if self._rng.random() < 0.7
            else f"published-{self._rng.randrange(DOCUMENTS)}"
        )
        answered = self._ask("GET", f"/v1/documents/{quote(document)}", params={"knowledge_base": self._base})
        if answered is not None and answered.status_code == 200:
            found = answered.json()
            whole = {"document_id": document, "version": found["version"]}
            self._beliefs.hits([{**whole, **chunk} for chunk in found["chunks"]], floor)
            self._beliefs.shown(document, found["version"], floor)

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        began = time.monotonic()
        answered = self._http.request(method, path, **more)
        if answered.status_code == 200:
            self.answers += 1
            return answered
        if answered.status_code == 404 and answered.json()["type"] == "/problems/document-not-found":
            self.answers += 1
            return None
        self.refused[str(answered.status_code)] += 1
        self.slowest_refusal_s = max(self.slowest_refusal_s, time.monotonic() - began)
        if answered.status_code not in (429, 503) or "retry-after" not in answered.headers:
            self._beliefs.note(f"{method} {path}: {answered.status_code}, no honest refusal: {answered.text[:200]}")
        self._stopping.wait(0.2)
        return None

    def _take(self, _partition: int, _offset: int, _key: bytes | None, value: bytes | None) -> None:
        self._beliefs.receipt(self._product.codec.decode(value or b"", Receipt))
