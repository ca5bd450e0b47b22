"""What the topic `access` amounts to: the same for whoever read all of it and for whoever came after compaction."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.access import ROLES, ApiKey, KnowledgeBase, Principal, Role, Scope, both_roles, digest, role_in
from runtime.access_entries import Grant, KeyEnd, KeyRevoked, Password, SecondFactor, User, UserBlocked, taken_back
from runtime.access_state import AccessState
from schemas.records import AccessEntry

NAMES = ("ann", "bob")
TENANTS = ("acme", "other")
BASES = ("kb", "*")


def key(name: str, *, tenant: str = "acme", subject: str = "svc", **more: object) -> ApiKey:
    made = ApiKey(name, digest(name), subject, tenant, ("query", "ingest"), {"*": "editor"})
    return replace(made, **more)  # type: ignore[arg-type]


pick = st.sampled_from
entries = st.one_of(
    st.builds(lambda n, t, s: key(n, tenant=t, subject=s).entry(), pick(NAMES), pick(TENANTS), pick((*NAMES, "svc"))),
    st.builds(lambda n: KeyRevoked(n).entry(), pick(NAMES)),
    st.builds(lambda n, at: KeyEnd(n, at).entry(), pick(NAMES), st.integers(1, 9)),
    st.builds(lambda t, n, a: KnowledgeBase(t, n, a).entry(), pick(TENANTS), pick(NAMES), pick(("everyone", "nobody"))),
    st.builds(lambda t, n: KnowledgeBase(t, n).used_entry(), pick(TENANTS), pick(NAMES)),
    st.builds(lambda t, n, g: User(t, n, g).entry(), pick(TENANTS), pick(NAMES), pick(((), ("staff",)))),
    st.builds(lambda t, n: UserBlocked(t, n).entry(), pick(TENANTS), pick(NAMES)),
    st.builds(lambda t, n: Password(t, n, "h", 1).entry(), pick(TENANTS), pick(NAMES)),
    st.builds(lambda t, n: SecondFactor(t, n, "s").entry(), pick(TENANTS), pick(NAMES)),
    st.builds(
        lambda t, b, w, r: Grant(t, b, w, r).entry(), pick(TENANTS), pick(BASES), pick((*NAMES, "staff")), pick(ROLES)
    ),
    st.just(AccessEntry("of-a-later-version", "x", "{}")),
)
histories = st.lists(st.one_of(entries, entries.map(taken_back)), max_size=30)


def state_of(history: list[AccessEntry]) -> AccessState:
    state = AccessState()
    for entry in history:
        state.take(entry)
    return state


def answers(state: AccessState) -> dict[str, object]:
    """All that can be asked."""
    return {
        "keys": [state.keys(tenant) for tenant in TENANTS],
        "held": [state.key_by_digest(digest(name)) for name in NAMES],
        "bases": [state.bases(tenant) for tenant in TENANTS],
        "made": [state.made_base(tenant, name) for tenant in TENANTS for name in NAMES],
        "users": [state.users(tenant) for tenant in TENANTS],
        "blocked": [state.blocked(tenant, name) for tenant in TENANTS for name in NAMES],
        "passwords": [state.password(tenant, name) for tenant in TENANTS for name in NAMES],
        "factors": [state.second_factor(tenant, name) for tenant in TENANTS for name in NAMES],
        "grants": [state.grants(tenant, base) for tenant in TENANTS for base in BASES],
        "roles": [state.roles(tenant, ("ann", "staff")) for tenant in TENANTS],
    }


@given(histories, st.data())
def test_compaction_changes_no_answer(history: list[AccessEntry], data: st.DataObject) -> None:
    """Any older record of a name may be gone, and some may still be there."""
    last = {entry.key: place for place, entry in enumerate(history)}
    left = [e for place, e in enumerate(history) if last[e.key] == place or data.draw(st.booleans())]

    assert answers(state_of(left)) == answers(state_of(history))


@given(histories, histories, st.data())
def test_a_revoked_key_never_comes_back(
    before: list[AccessEntry], after: list[AccessEntry], data: st.DataObject
) -> None:
    """Whatever replicas that do not know yet write later, also if compaction leaves their records alone."""
    history = [*before, KeyRevoked("ann").entry(), *after]
    last = {entry.key: place for place, entry in enumerate(history)}
    left = [entry for place, entry in enumerate(history) if last[entry.key] == place or data.draw(st.booleans())]

    for state in (state_of(history), state_of(left)):
        found = state.key_by_digest(digest("ann"))
        assert found is None or not found.alive(0)


def test_that_a_key_was_revoked_is_not_taken_back_either() -> None:
    """Not even where compaction left nothing but the attempt."""
    attempt = taken_back(KeyRevoked("ann").entry())

    for history in ([KeyRevoked("ann").entry(), attempt], [attempt]):
        found = state_of([key("ann").entry(), *history]).key_by_digest(digest("ann"))
        assert found is not None
        assert not found.active


@given(histories, histories)
def test_a_base_that_its_first_document_makes_never_opens_one_that_somebody_closed(
    before: list[AccessEntry], after: list[AccessEntry]
) -> None:
    """The upload API of another replica may not have read yet that it was made."""
    closed = KnowledgeBase("acme", "ann", "nobody")
    later = [entry for entry in after if entry.key != closed.entry().key]

    assert state_of([*before, closed.entry(), *later]).base("acme", "ann") == closed


maps = st.dictionaries(st.sampled_from(("a", "b", "*")), st.sampled_from(ROLES))


@given(maps, maps, st.sampled_from(("a", "b", "c")))
def test_what_two_maps_of_roles_both_give_is_the_weaker_role(
    one: dict[str, Role], other: dict[str, Role], base: str
) -> None:
    """In every knowledge base, named or not."""
    mine, theirs = role_in(one, base), role_in(other, base)
    both = role_in(both_roles(one, other), base)

    if mine is None or theirs is None:
        assert both is None
    else:
        assert both == min(mine, theirs, key=ROLES.index)


def principal(*entries: AccessEntry, **of: object) -> Principal | None:
    found = state_of([key("k", subject="ann", **of).entry(), *entries]).key_by_digest(digest("k"))
    return found.principal() if found is not None and found.alive(0) else None


def test_a_key_that_acts_for_a_user_does_what_both_may() -> None:
    """Now, not when it was made."""
    scopes: tuple[Scope, ...] = ("query", "ingest", "admin")
    admin = {"scopes": scopes, "groups": ("staff", "board")}
    ann = User("acme", "ann", ("staff",)).entry()

    unbound = principal(**admin)
    assert unbound is not None
    assert unbound.admin  # nobody of this name: a service's own key
    bound = principal(ann, **admin)
    assert bound is not None
    assert (bound.admin, bound.roles, bound.groups) == (False, {}, {"staff"})
    granted = principal(ann, Grant("acme", "kb", "staff", "viewer").entry(), **admin)
    assert granted is not None
    assert (granted.role_in("kb"), granted.role_in("other")) == ("viewer", None)
    boss = principal(ann, Grant("acme", "*", "ann", "admin").entry(), **admin)
    assert boss is not None
    assert boss.admin
    assert principal(ann, UserBlocked("acme", "ann").entry(), **admin) is None
    elsewhere = principal(UserBlocked("other", "ann").entry(), **admin)
    assert elsewhere is not None


@pytest.mark.parametrize(("end", "expires", "wanted"), [(5, None, 5), (5, 9, 5), (9, 5, 5)])
def test_a_rotated_key_ends_and_never_lives_longer_for_it(end: int, expires: int | None, wanted: int) -> None:
    """Its own expiry stays where that is sooner."""
    found = state_of([key("k", expires_ms=expires).entry(), KeyEnd("k", end).entry()]).key("k")

    assert found is not None
    assert found.expires_ms == wanted


def test_a_grant_that_is_taken_back_leaves_the_others() -> None:
    """Each is an entry of its own."""
    grants = [
        Grant("acme", "kb", "ann", "editor"),
        Grant("acme", "kb", "staff", "viewer"),
        Grant("acme", "*", "ann", "viewer"),
    ]
    state = state_of([grant.entry() for grant in grants])

    assert state.roles("acme", ("ann", "staff")) == {"kb": "editor", "*": "viewer"}
    state.take(taken_back(grants[0].entry()))
    assert state.roles("acme", ("ann", "staff")) == {"kb": "viewer", "*": "viewer"}
    assert [grant.who for grant in state.grants("acme", "kb")] == ["staff"]
