"""Which candidates count, as a function of manifests and rights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.retrieval.rights import Rights, UnknownBases, rights_of
from query_api.retrieval.visibility import keys_to_ask, visible
from runtime.access import KnowledgeBase, Principal
from schemas.index.manifest import barrier_document
from tests.unit.query_api.fake_index import candidate, manifest

ALL = Rights("acme", {"kb": True}, None)
DOC = "acme/kb/d"


def test_a_hit_takes_its_place_and_version_from_the_manifest() -> None:
    (hit,), beaten = visible([candidate(DOC, "b", text="abcd", score=0.5)], [manifest(DOC, "a", "b")], ALL)

    assert (hit.document_id, hit.knowledge_base, hit.start, hit.end) == ("d", "kb", 10, 14)
    assert (hit.text, hit.score, hit.version) == ("abcd", 0.5, "cdc/shop@0001.1.00000000000000000001")
    assert beaten == 0


def test_the_order_of_candidates_is_kept() -> None:
    candidates = [candidate(DOC, name) for name in ("c", "a", "b")]

    hits, _ = visible(candidates, [manifest(DOC, "a", "b", "c")], ALL)

    assert [hit.chunk_id for hit in hits] == ["c", "a", "b"]


def test_no_manifest_means_no_hit() -> None:
    assert visible([candidate(DOC)], [], ALL) == ([], 0)


def test_a_chunk_of_a_beaten_version_is_left_out_and_counted() -> None:
    assert visible([candidate(DOC, "old")], [manifest(DOC, "new", major=2), manifest(DOC, "old")], ALL) == ([], 1)


@pytest.mark.parametrize(("barrier_at", "shown"), [(4, 1), (5, 1), (6, 0)])
def test_a_barrier_hides_what_is_older_than_it(barrier_at: int, shown: int) -> None:
    barrier = manifest(barrier_document("shop"), major=barrier_at)

    hits, _ = visible([candidate(DOC)], [manifest(DOC, "c", major=5), barrier], ALL)

    assert len(hits) == shown


def test_the_barrier_is_asked_for_with_the_documents() -> None:
    assert keys_to_ask([candidate(DOC), candidate("acme/kb/e")]) == {DOC, "acme/kb/e", barrier_document("shop")}


@pytest.mark.parametrize(
    ("access", "public", "readers", "shown"),
    [
        (None, True, {"ann"}, True),
        (None, False, {"ann"}, False),
        (("ann",), False, {"ann"}, True),
        (("group:hr",), True, {"ann", "group:hr"}, True),
        (("bob",), True, {"ann"}, False),
        ((), True, {"ann"}, False),
        ((), False, None, True),
        (None, False, None, True),
    ],
)
def test_the_newest_access_list_decides(
    access: tuple[str, ...] | None, public: bool, readers: set[str] | None, shown: bool
) -> None:
    rights = Rights("acme", {"kb": public}, None if readers is None else frozenset(readers))

    hits, _ = visible([candidate(DOC)], [manifest(DOC, "c", access=access)], rights)

    assert bool(hits) is shown


@pytest.mark.parametrize("document", ["globex/kb/d", "acme/other/d"])
def test_another_tenants_or_bases_document_is_never_a_hit(document: str) -> None:
    assert visible([candidate(document)], [manifest(document, "c")], ALL) == ([], 0)


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.frozensets(st.sampled_from("abcd")), st.booleans()), unique_by=lambda v: v[0]
    ),
    st.randoms(),
)
def test_hits_are_always_of_one_version_whatever_is_there_in_whatever_order(
    versions: list[tuple[int, frozenset[str], bool]], random: object
) -> None:
    manifests = [manifest(DOC, *sorted(chunks), major=major, grave=grave) for major, chunks, grave in versions]
    random.shuffle(manifests)  # type: ignore[attr-defined]

    hits, _ = visible([candidate(DOC, name) for name in "abcd"], manifests, ALL)

    newest = max(versions, default=(0, frozenset[str](), True))
    assert {hit.chunk_id for hit in hits} == (frozenset() if newest[2] else newest[1])


def caller(scopes: set[str], roles: dict[str, str]) -> Principal:
    return Principal("ann", "acme", frozenset(scopes), roles, frozenset({"group:hr"}))  # type: ignore[arg-type]


BASES = [KnowledgeBase("acme", "a"), KnowledgeBase("acme", "b", "nobody")]


def test_a_caller_reaches_the_bases_it_has_a_role_in() -> None:
    reach = rights_of(caller({"query"}, {"a": "viewer"}), BASES, None)

    assert reach.bases == {"a": True}
    assert reach.readers == frozenset({"ann", "group:hr"})


def test_a_star_role_reaches_all_and_an_admin_sees_all() -> None:
    assert rights_of(caller({"query"}, {"*": "viewer"}), BASES, None).bases == {"a": True, "b": False}
    admin = rights_of(caller({"admin"}, {}), BASES, ["b"])
    assert (admin.bases, admin.readers) == ({"b": False}, None)


def test_a_base_without_a_role_is_as_unknown_as_one_that_is_not_there() -> None:
    with pytest.raises(UnknownBases) as unknown:
        rights_of(caller({"query"}, {"a": "viewer"}), BASES, ["a", "b", "zzz"])

    assert unknown.value.names == ("b", "zzz")
