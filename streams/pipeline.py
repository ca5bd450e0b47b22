"""The map, to be read first: which stages there are, what each reads and writes, under which consumer group.

    rows ---Debezium--> cdc.* ----+
    source systems ---> events ---+--> capture --+
    people ----------> uploads ---> parse -------+--> documents --> index, index-bulk --> Weaviate, receipts

Worker, lag exporter, compose file and documentation are built from this list or checked against it.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.lanes import Lane


@dataclass(frozen=True)
class Stage:
    """One stage: its step is in steps/<name>.py, its workers share one consumer group, its lag is its queue.

    reads are topics; row_changes: also the topic of every applied source. batch: records handed in at once.
    lasting: its workers keep their place in the group over a restart (static membership), so that one which is killed
    and started again goes on at once. A broker does not look at the subscription of such a member when it comes back,
    hence not for the stage whose topics change with the sources.
    lane: of the records it reads, it handles those of this lane and passes over the others. The index stage's two
    lanes share one step; the bulk lane's worker gives way to all other processes of its machine.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    batch: int
    row_changes: bool = False
    lasting: bool = True
    lane: Lane | None = None

    @property
    def group(self) -> str:
        """The consumer group."""
        return f"thalweg-{self.name}"


STAGES = (
    Stage(
        "capture",
        reads=("events",),
        writes=("documents", "receipts", "dead-letters"),
        batch=200,
        row_changes=True,
        lasting=False,
    ),
    Stage("parse", reads=("uploads",), writes=("documents", "receipts", "dead-letters"), batch=4),
    Stage("index", reads=("documents",), writes=("receipts", "embeddings", "dead-letters"), batch=100, lane=Lane.LIVE),
    Stage(
        "index-bulk",
        reads=("documents",),
        writes=("receipts", "embeddings", "dead-letters"),
        batch=20,
        lane=Lane.BULK,
    ),
)


def stage(name: str) -> Stage:
    """The stage of this name. Raises KeyError."""
    return {item.name: item for item in STAGES}[name]


def index_stages() -> tuple[Stage, ...]:
    """The stages whose workers write the live generation; each reads the same topics, for a group of its own."""
    return tuple(item for item in STAGES if "embeddings" in item.writes)


def side_group(generation: str) -> str:
    """The consumer group that feeds a generation which is not live, beside the index stage's own group."""
    return f"{stage('index').group}-{generation}"
