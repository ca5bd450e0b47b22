"""Which manifest of a document is newest: the same for every reader, in whatever order the store answers.

Two writers may plan one version on different states of the index; of their two manifests, both of one position, all
must take the same for the document, else each marks as superseded what the other shows.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.index.manifest import Manifest, Span, newest
from schemas.records import Origin, Position
from streams.core.versions import marks

manifests = st.builds(
    lambda document, major, chunks: Manifest(
        document,
        Position("events/0", 1, major, 0, major),
        Origin("event", "s", "a", "events", 0, major),
        tuple(Span(f"{document} {name}", name, at, at + 1) for at, name in enumerate(chunks)),
    ),
    st.sampled_from(["t/kb/a", "t/kb/b"]),
    st.integers(0, 2),
    st.lists(st.sampled_from("xyz"), max_size=2, unique=True),
)
"""Few versions of few documents: many are of one position, with other chunks."""


@given(
    st.lists(manifests, max_size=6, unique_by=lambda manifest: manifest.id).flatmap(
        lambda found: st.tuples(st.just(found), st.permutations(found))
    )
)
def test_two_readers_take_one_manifest_whatever_the_order_of_their_answers(
    answers: tuple[list[Manifest], list[Manifest]],
) -> None:
    """And what the one takes the other does not mark as superseded."""
    one, other = answers

    assert newest(one) == newest(other)
    marked = {manifest.id for answer in answers for manifest in marks(answer, {}, (), {}).supersede}
    assert marked.isdisjoint(manifest.id for manifest in newest(one).values())


@given(manifests, manifests)
def test_two_plans_of_one_version_with_other_chunks_are_two_manifests(one: Manifest, other: Manifest) -> None:
    """Overwritten by the other, the objects of the first would belong to nobody."""
    alike = (one.document, one.position, one.spans) == (other.document, other.position, other.spans)

    assert (one.id == other.id) is alike
