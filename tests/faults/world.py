"""All that a fault may touch: the product, its processes, the model it embeds with, one source under load.

Before this: the counted stack. After this: `driver.py`. One world serves many faults, one after the other.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from runtime.producer import ConfirmedProducer
from streams.pipeline import stage
from tests.faults import dead_letters
from tests.faults.dead_letters import DeadLetter
from tests.faults.load import Load
from tests.faults.processes import Processes
from tests.faults.random_writes import SOURCE, TABLE
from tests.stand_ins.model_server import ModelServer
from tests.support.client import eventually
from tests.support.counted import CountedStack
from tests.support.product import Product
from tests.support.quiesce import Receipts
from tests.support.source import TableSource, make_source

PROGRESS_S = 60.0
SETTLED_S = 120.0
CLOSING_ROW = 10_000


class World:
    """One source under load on the counted stack. `open_world` makes one."""

    def __init__(
        self, counted: CountedStack, product: Product, receipts: Receipts, source: TableSource, load: Load
    ) -> None:
        self.counted, self.product, self.receipts = counted, product, receipts
        self.source, self.load = source, load
        self.processes = Processes(counted.stack)
        self.healing = ExitStack()
        self.poison: set[str] = set()
        self.judged: set[str] = set()
        self.letters_begin: dict[int, int] = {}

    @property
    def models(self) -> ModelServer:
        """The stand-in that the product embeds with."""
        return self.counted.models

    @property
    def base(self) -> str:
        """The knowledge base under load."""
        return self.source.spec.knowledge_base

    @property
    def bootstrap(self) -> str:
        """The broker."""
        return self.product.settings.kafka.bootstrap

    def committed(self, name: str) -> int:
        """How far a stage's workers have acknowledged, over all partitions, as the broker knows it."""
        declared = stage(name)
        topics = [*declared.reads, *([self.source.spec.topic] if declared.row_changes else [])]
        return sum(lag.committed or 0 for lag in self.product.topics.lag(declared.group, topics))

    def progress(self, name: str = "index", within_s: float = PROGRESS_S) -> None:
        """Return once the stage has acknowledged more than it had at the call. Fails if it does not."""
        before = self.committed(name)
        eventually(lambda: self.committed(name) > before, within_s, every_s=0.2)

    def close_books(self) -> str:
        """Write one last row, after which nothing comes; a word that its record holds."""
        word = f"closing-{uuid.uuid4().hex}"
        self.source.execute(
            "INSERT INTO {table} VALUES (%s, %s, 'The last row.') "
            "ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title",
            (CLOSING_ROW, word),
        )
        return word

    def letters(self) -> list[DeadLetter]:
        """The dead letters since the fault began."""
        return dead_letters.since(self.product, self.letters_begin)

    @contextmanager
    def producer(self) -> Iterator[ConfirmedProducer]:
        """A producer of a test's own, which can send anything."""
        with ConfirmedProducer(self.bootstrap, client_id="faults", message_max_bytes=41_943_040) as made:
            yield made


@contextmanager
def open_world(counted: CountedStack, product: Product, receipts: Receipts, rng: random.Random) -> Iterator[World]:
    """A world whose source is applied and streams; source, documents and topic go at the end."""
    with make_source(product, receipts, "faults", TABLE, **SOURCE) as source:
        source.apply()
        world = World(counted, product, receipts, source, Load(product, source, rng))
        # Workers end and start anew for a new source: not to be met in the middle of the first fault.
        world.close_books()
        source.settle(1, SETTLED_S)
        for name in world.processes.own():
            world.processes.live(name)
        yield world


class Worlds:
    """One world at a time, a new one after findings: what one fault broke must not be counted against the next."""

    def __init__(self, counted: CountedStack, product: Product, receipts: Receipts, seed: int) -> None:
        self._parts = (counted, product, receipts)
        self._rng = random.Random(seed)
        self._open = ExitStack()
        self._world: World | None = None

    def __enter__(self) -> Worlds:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()

    def now(self) -> World:
        """The world for the next fault."""
        if self._world is None:
            self._world = self._open.enter_context(open_world(*self._parts, self._rng))
        return self._world

    def drop(self) -> None:
        """End this world."""
        self._world = None
        self._open.close()
