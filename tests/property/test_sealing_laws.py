"""Laws of sealing, for any value: it comes back, it is the same again, and it opens nowhere else and not altered."""

from __future__ import annotations

import string

from hypothesis import assume, given
from hypothesis import strategies as st

from runtime.privacy.sealing import PREFIX, Seals
from schemas.records import MetadataValue, document_key

OLD, NEW = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
SEALS = Seals([OLD])

texts = st.text(max_size=60) | st.text(st.characters(categories=["Cs"]), max_size=3)  # halves of pairs, too
values: st.SearchStrategy[MetadataValue] = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(texts, max_size=5),
    st.sampled_from([SEALS.sealed("t/kb/d", "n", 1), f"{PREFIX}x:y", PREFIX]),
)
names = st.text(min_size=1, max_size=20)
plain_names = st.text("abcd", min_size=1, max_size=3)
places = st.builds(document_key, plain_names, plain_names, st.text(min_size=1, max_size=20))


@given(places, names, values)
def test_what_is_sealed_comes_back_as_it_was(document: str, name: str, value: MetadataValue) -> None:
    found = SEALS.opened(document, {name: SEALS.sealed(document, name, value)})[name]

    assert found == value
    assert type(found) is type(value)


@given(places, names, values)
def test_the_same_in_gives_the_same_out_in_every_process(document: str, name: str, value: MetadataValue) -> None:
    assert SEALS.sealed(document, name, value) == Seals([OLD, NEW]).sealed(document, name, value)


@given(places, places, names, names, values)
def test_it_opens_in_no_other_tenant_base_document_or_key(
    here: str, there: str, name: str, other: str, value: MetadataValue
) -> None:
    assume((here, name) != (there, other))
    sealed = SEALS.sealed(here, name, value)

    assert SEALS.opened(there, {other: sealed}) == {other: sealed}
    assert SEALS.sealed(there, other, value) != sealed


@given(places, names, values)
def test_after_a_rotation_the_old_opens_and_the_new_seals(document: str, name: str, value: MetadataValue) -> None:
    before, after = SEALS.sealed(document, name, value), Seals([NEW, OLD]).sealed(document, name, value)

    assert before != after
    assert Seals([NEW, OLD]).opened(document, {"a": before, name: before})[name] == value
    for without in (Seals([NEW]), Seals()):
        assert without.opened(document, {name: before}) == {name: before}
    assert Seals([NEW]).opened(document, {name: after}) == {name: value}


@given(places, names, values, st.data())
def test_an_altered_character_opens_nothing(
    document: str, name: str, value: MetadataValue, data: st.DataObject
) -> None:
    sealed = SEALS.sealed(document, name, value)
    place = data.draw(st.integers(0, len(sealed) - 1))
    sign = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_:=\n ").filter(sealed[place].__ne__))
    altered = data.draw(
        st.sampled_from([sealed[:place] + sign + sealed[place + 1 :], sealed[:place] + sign + sealed[place:]])
    )
    assume(altered != sealed)

    assert SEALS.opened(document, {name: altered}) == {name: altered}


@given(places, names, st.text("0123456789", max_size=20), st.text("0123456789", max_size=20))
def test_short_values_have_one_length(document: str, name: str, one: str, other: str) -> None:
    assert len(SEALS.sealed(document, name, one)) == len(SEALS.sealed(document, name, other))


@given(st.dictionaries(names, st.one_of(texts, st.integers(), st.none()), max_size=5))
def test_what_was_never_sealed_stays_as_it_is(metadata: dict[str, MetadataValue]) -> None:
    assert SEALS.opened("t/kb/d", metadata) == metadata
