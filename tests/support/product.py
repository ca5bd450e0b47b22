"""The running product as tests hold it: its settings, processes, metrics, APIs, and the full scan of its index.

Before this: the session fixture `stack`. After this: `source.py`, `quiesce.py` and the tests.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from connectors.publish import publish_events
from deploy.local.stack import Stack
from runtime.access import KnowledgeBase
from runtime.directory import Directory, read_demo_key
from runtime.privacy.policy import Policy
from runtime.producer import ConfirmedProducer
from runtime.settings import load_with_origin
from runtime.topics import Topics
from runtime.weaviate import connect
from schemas.codec import Codec
from schemas.index.manifest import barrier_document
from schemas.records import Event
from schemas.registry import Registry
from streams import generations
from tests.support.client import Client, eventually
from tests.support.oracle import Scan, scan_weaviate


class Product:
    """One running product. Close it when done; that stops nothing."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.settings, self.origins = load_with_origin(stack.environment(), folder=stack.home.run)
        self.codec = Codec(Registry(self.settings.registry.url))
        self.topics = Topics(self.settings.kafka.bootstrap)
        self.weaviate = connect(self.settings.weaviate)

    def close(self) -> None:
        """Close the connections."""
        self.weaviate.close()
        if "client" in vars(self):
            self.client.query.close()
            self.client.ingest.close()

    @property
    def tenant(self) -> str:
        """Whom the demo key acts for."""
        return self.settings.tenant

    @cached_property
    def client(self) -> Client:
        """Both APIs, as the demo key's holder."""
        apis = self.stack.state()["apis"]
        assert self.settings.access.demo_key_file is not None
        return Client(apis["query"], apis["upload"], read_demo_key(self.settings.access.demo_key_file))

    def process(self, name: str) -> dict[str, Any]:
        """State, pid and addresses of one of our processes, now."""
        return self.stack.state()["processes"][name]

    def metric(self, process: str, name: str, **labels: str) -> float:
        """A metric's value, 0 if the process has not counted it yet. Raises httpx.HTTPError while it is down."""
        text = httpx.get(str(self.process(process)["metrics"]), timeout=10, trust_env=False)
        text.raise_for_status()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def publish(self, events: Sequence[Event]) -> list[str]:
        """Publish events as `thalweg publish` does, many together as a load; their positions."""
        with ConfirmedProducer(self.settings.kafka.bootstrap, client_id="tests") as producer:
            return [item.position for batch in publish_events(producer, self.codec, events) for item in batch]

    def make_base(self, policy: Policy) -> str:
        """Makes a knowledge base with this policy; its name, which no other has."""
        name, bootstrap = f"base-{uuid.uuid4().hex[:8]}", self.settings.kafka.bootstrap
        with ConfirmedProducer(bootstrap, client_id="test") as made:
            directory = Directory(bootstrap, self.codec, producer=made)
            directory.start()
            try:
                assert directory.wait_ready(30)
                directory.put(KnowledgeBase(self.tenant, name, policy=policy).entry())
            finally:
                directory.close()
        return name

    def scan(self, knowledge_base: str, source: str) -> Scan:
        """Everything that the live generation holds of a knowledge base's documents, and the source's barriers."""
        generation = generations.live(self.weaviate)
        whole = scan_weaviate(self.weaviate, generation.chunks, generation.manifests, self.tenant)
        prefix, barrier = f"{self.tenant}/{knowledge_base}/", barrier_document(source)
        return Scan(
            tuple(m for m in whole.manifests if m.document.startswith(prefix) or m.document == barrier),
            tuple(c for c in whole.chunks if c.document.startswith(prefix)),
        )


@contextmanager
def product_of(stack: Stack) -> Iterator[Product]:
    """The product of a running stack, closed at the end."""
    made = Product(stack)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def no_worker(product: Product, name: str) -> Iterator[None]:
    """The worker does nothing meanwhile, and is then another one: its supervisor starts it anew once it has died."""
    worker = psutil.Process(product.process(name)["pid"])
    worker.suspend()
    eventually(lambda: worker.status() == psutil.STATUS_STOPPED, 10)
    try:
        yield
    finally:
        worker.kill()
    product.stack.wait_ready(name, 60, other_than_pid=worker.pid)
