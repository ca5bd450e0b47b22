"""Which generation is live, which is joining, and which documents make two of them differ. Pure."""

from __future__ import annotations

import pytest

from runtime.settings import Embedding
from schemas.index.contract import Generation
from schemas.index.manifest import Manifest, Span, barrier_document
from schemas.records import Origin, Position
from streams import generations
from streams.core.chunking import ChunkingParameters
from streams.generations import Life, Standing, WrongModel
from streams.rebuilding.comparison import _open, _versions


def test_a_generation_says_what_made_it_and_is_named_by_that_alone() -> None:
    made = generations.wanted_generation(Embedding())
    read = Generation.from_description(made.describe())

    assert (read, read.embedding, read.chunking) == (made, made.embedding, made.chunking)
    assert generations.parameters_of(read) == ChunkingParameters()
    old = Generation.from_description('{"model": "m", "dimension": 3, "chunker": "c"}')
    assert (old.embedding, old.chunking) == ({}, {})
    assert generations.wanted_generation(Embedding(), salt="2").name != made.name


def test_a_generation_of_another_chunker_is_not_written_to() -> None:
    odd = Generation("m", 3, "other-1", chunking={"most": 900, "least": 200})

    with pytest.raises(WrongModel, match="rebuild start"):
        generations.parameters_of(odd)
    assert generations.can_be_fed(odd, Embedding())
    unknown = Generation("m", 3, ChunkingParameters().fingerprint)
    assert "does not say which model" in str(generations.can_be_fed(unknown, Embedding()))
    assert generations.can_be_fed(generations.wanted_generation(Embedding(), salt="x"), Embedding()) is None


def test_one_joins_until_its_time_is_up_and_never_while_it_is_live() -> None:
    found = {name: Generation(name, 3, "c") for name in ("a", "b", "c")}
    names = {label: generation.name for label, generation in found.items()}
    there = Standing(
        names["a"],
        {generation.name: generation for generation in found.values()},
        {
            names["a"]: Life(joining_until_ms=9000),
            names["b"]: Life(joining_until_ms=100),
            names["c"]: Life(joining_until_ms=200),
        },
    )

    assert there.joining(50) == found["c"], "the promotion that was begun last"
    assert there.joining(150) == found["c"]
    assert there.joining(200) is None
    assert set(there.others) == {names["b"], names["c"]}


def manifest(name: str, major: int, *hashes: str, grave: bool = False, at: str = "cdc/s") -> Manifest:
    spans = tuple(Span(f"{name}{major}{hashed}", hashed, 0, 1) for hashed in hashes)
    return Manifest(name, Position(at, 1, major, 1, major), Origin("cdc", "s", "", "t", 0, major), spans, grave)


def barrier(major: int) -> Manifest:
    return manifest(barrier_document("s"), major, grave=True)


def differing(here: list[Manifest], there: list[Manifest], *, same_chunks: bool = True) -> dict[str, str]:
    return _open(_versions(here), _versions(there), same_chunks=same_chunks)


def test_the_same_history_agrees_whatever_beaten_versions_are_left() -> None:
    here = [manifest("d", 5, "x", "y"), manifest("d", 1, "old"), manifest("gone", 6, grave=True), manifest("ended", 1)]

    assert differing([*here, barrier(4)], [manifest("d", 5, "x", "y"), barrier(4)]) == {}


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ([], "is missing"),
        ([manifest("d", 1, "x", "y")], "is at"),
        ([manifest("d", 2, "x")], "other chunks"),
        ([manifest("d", 2, "y", "x")], "other chunks"),
        ([manifest("d", 2, "x", "y"), barrier(3)], "is shown in one of the two only"),
    ],
)
def test_what_readers_would_lose_is_a_difference(there: list[Manifest], why: str) -> None:
    assert why in differing([manifest("d", 2, "x", "y")], there)["d"]


@pytest.mark.parametrize(
    "there",
    [
        [manifest("d", 3, "z")],
        [manifest("d", 3, grave=True)],
        [manifest("d", 2, "x", "y"), manifest("more", 1, "z")],
    ],
)
def test_being_ahead_is_none(there: list[Manifest]) -> None:
    assert differing([manifest("d", 2, "x", "y")], there) == {}


def test_a_deleted_document_that_comes_back_is_a_difference() -> None:
    assert "d" in differing([manifest("d", 3, grave=True)], [manifest("d", 2, "x")])
    assert differing([manifest("d", 3, grave=True)], []) == {}
    assert differing([manifest("d", 2, "x"), barrier(3)], [barrier(3)]) == {}


def test_other_chunkers_are_not_compared_by_chunk() -> None:
    assert differing([manifest("d", 2, "x")], [manifest("d", 2, "p", "q")], same_chunks=False) == {}
