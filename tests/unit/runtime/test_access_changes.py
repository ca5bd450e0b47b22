"""Who may change who may do what; and that two replicas at once never bring back what one of them ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtime.access import EVERY_BASE, SCOPES, KnowledgeBase, Principal, Role, digest
from runtime.access_changes import DAY_MS, AccessChanges, ChangeRefused, KeyWanted, MadeKey
from runtime.access_entries import Grant, UserBlocked
from tests.support.access_topic import AccessReplica, AccessTopic

NOW = 1_000_000_000_000
ADMIN = Principal("boss", "acme", frozenset(SCOPES), {}, via="session")
ANN = Principal(
    "ann", "acme", frozenset({"query", "ingest"}), {"kb": "editor", "*": "viewer"}, frozenset({"staff"}), via="session"
)
READ = KeyWanted(("query",))


@pytest.fixture
def topic() -> AccessTopic:
    return AccessTopic(KnowledgeBase("acme", "kb").entry(), KnowledgeBase("other", "theirs").entry())


def changes_on(replica: AccessReplica, now: list[int] | None = None) -> AccessChanges:
    clock = now or [NOW]
    return AccessChanges(replica, lambda: clock[0], longest_key_days=365)


@pytest.fixture
def replica(topic: AccessTopic) -> AccessReplica:
    return AccessReplica(topic)


@pytest.fixture
def changes(replica: AccessReplica) -> AccessChanges:
    return changes_on(replica)


def works(made: MadeKey, replica: AccessReplica, now: int = NOW) -> bool:
    return replica.find_key(digest(made.secret), now) is not None


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ChangeRefused) as caught:
        call()
    return caught.value.kind


def test_a_key_is_shown_once_and_stored_as_its_hash(changes: AccessChanges, replica: AccessReplica) -> None:
    made = changes.make_key(
        ADMIN, "acme", KeyWanted(("ingest",), "crawler", {"kb": "editor"}, ("staff",), 60, "nightly")
    )

    stored = "".join(entry.body for entry in replica.topic.entries)
    assert made.secret not in stored
    assert made.secret.startswith("tw_")
    assert digest(made.secret) in stored
    assert works(made, replica)
    assert not works(made, replica, NOW + 60_000)
    assert (made.key.subject, made.key.made_by, made.key.note) == ("crawler", "boss", "nightly")


@pytest.mark.parametrize(
    "wanted",
    [
        KeyWanted(("admin",)),
        KeyWanted(("query", "admin")),
        KeyWanted(("query",), subject="bob"),
        KeyWanted(("query",), groups=("board",)),
        KeyWanted(("query",), roles={"kb": "admin"}),
        KeyWanted(("query",), roles={"other": "editor"}),
        KeyWanted(("query",), roles={"*": "editor"}),
    ],
)
def test_nobody_gives_more_than_it_has(changes: AccessChanges, wanted: KeyWanted) -> None:
    assert refusal(lambda: changes.make_key(ANN, "acme", wanted)) == "forbidden"


@pytest.mark.parametrize(
    ("wanted", "roles"),
    [
        (KeyWanted(("query", "ingest")), {"kb": "editor", "*": "viewer"}),
        (READ, {"kb": "viewer", "*": "viewer"}),
        (KeyWanted(("query",), roles={"kb": "editor"}), {"kb": "editor"}),
        (
            KeyWanted(("query",), roles={"kb": "viewer", "more": "viewer"}, groups=("staff",)),
            {"kb": "viewer", "more": "viewer"},
        ),
    ],
)
def test_what_one_has_one_may_give(changes: AccessChanges, wanted: KeyWanted, roles: dict[str, Role]) -> None:
    made = changes.make_key(ANN, "acme", wanted)

    assert made.key.roles == roles
    assert made.key.subject == "ann"
    assert made.key.expires_ms == NOW + 365 * DAY_MS  # not for ever, unless an admin makes it


def test_only_people_and_admins_keys_make_keys_and_none_outlives_its_maker(changes: AccessChanges) -> None:
    """A key that leaked must not be able to make another that stays when it is revoked."""
    key = Principal("ann", "acme", frozenset({"query", "ingest"}), {"*": "editor"}, via="key")
    assert refusal(lambda: changes.make_key(key, "acme", READ)) == "forbidden"
    own = changes.make_key(ANN, "acme", READ)
    assert refusal(lambda: changes.rotate_key(key, "acme", own.key.id, overlap_s=0)) == "forbidden"
    assert refusal(lambda: changes.revoke_key(key, "acme", own.key.id)) == "forbidden"

    admins = Principal("boss", "acme", frozenset(SCOPES), {}, via="key", expires_ms=NOW + 5000)
    assert changes.make_key(admins, "acme", READ).key.expires_ms == NOW + 5000


@pytest.mark.parametrize(
    "wanted",
    [
        KeyWanted(()),
        KeyWanted(("query",), subject=" "),
        KeyWanted(("query",), subject="a\nb"),
        KeyWanted(("query",), groups=("a,b",)),
        KeyWanted(("query",), roles={"a/b": "viewer"}),
        KeyWanted(("query",), roles={"kb": "owner"}),  # type: ignore[dict-item]
        KeyWanted(("root",)),  # type: ignore[arg-type]
    ],
)
def test_a_key_of_odd_words_is_refused(changes: AccessChanges, wanted: KeyWanted) -> None:
    assert refusal(lambda: changes.make_key(ADMIN, "acme", wanted)) == "validation-failed"


def test_anothers_key_and_another_tenants_are_not_there(changes: AccessChanges, topic: AccessTopic) -> None:
    of_ann = changes.make_key(ADMIN, "acme", KeyWanted(("query",), "ann"))
    bob = Principal("bob", "acme", frozenset({"query"}), {}, via="session")
    stranger = Principal("boss", "other", frozenset(SCOPES), {}, via="session")
    before = len(topic.entries)

    for by, tenant in ((bob, "acme"), (stranger, "other")):
        assert changes.keys(by, tenant) == []
        for call in (
            lambda by=by, tenant=tenant: changes.revoke_key(by, tenant, of_ann.key.id),
            lambda by=by, tenant=tenant: changes.rotate_key(by, tenant, of_ann.key.id, overlap_s=0),
        ):
            assert refusal(call) == "key-not-found"
    assert len(topic.entries) == before
    assert changes.keys(ANN, "acme") == [of_ann.key]


def test_a_rotated_key_counts_until_the_overlap_is_over(changes: AccessChanges, replica: AccessReplica) -> None:
    old = changes.make_key(ADMIN, "acme", KeyWanted(("query",), "crawler", {"kb": "viewer"}, (), 1000, "n"))

    new = changes.rotate_key(ADMIN, "acme", old.key.id, overlap_s=60)

    assert works(old, replica, NOW + 59_999)
    assert not works(old, replica, NOW + 60_000)
    assert works(new, replica, NOW + 999_999)
    assert (new.key.replaces, new.key.subject, new.key.roles, new.key.note) == (
        old.key.id,
        "crawler",
        {"kb": "viewer"},
        "n",
    )
    assert refusal(lambda: changes.rotate_key(ADMIN, "acme", old.key.id, overlap_s=60)) == "conflict"
    assert [key.id for key in changes.revoke_key(ADMIN, "acme", old.key.id)] == [new.key.id]
    assert not works(old, replica)
    assert works(new, replica)
    assert refusal(lambda: changes.rotate_key(ADMIN, "acme", old.key.id, overlap_s=60)) == "conflict"


def test_a_rotation_never_lengthens_an_expiring_key(topic: AccessTopic) -> None:
    now = [NOW]
    replica = AccessReplica(topic)
    changes = changes_on(replica, now)
    old = changes.make_key(ADMIN, "acme", KeyWanted(("query",), "crawler", life_s=60))

    changes.rotate_key(ADMIN, "acme", old.key.id, overlap_s=3600)

    assert not works(old, replica, NOW + 60_000)


def test_a_key_revoked_by_one_replica_stays_revoked_whatever_another_does_that_has_not_read_it(
    topic: AccessTopic,
) -> None:
    """Rotation makes no successor of it either: not one that anybody was given."""
    here, there = AccessReplica(topic), AccessReplica(topic)
    old = changes_on(here).make_key(ADMIN, "acme", KeyWanted(("query",), "crawler"))
    there.read()
    changes_on(here).revoke_key(ADMIN, "acme", old.key.id)
    assert works(old, there)  # has not read it

    assert refusal(lambda: changes_on(there).rotate_key(ADMIN, "acme", old.key.id, overlap_s=3600)) == "conflict"

    for replica in (here, there, AccessReplica(topic), AccessReplica(topic.compacted())):
        replica.read()
        assert not works(old, replica)
        assert [key for key in replica.state.keys("acme") if key.alive(NOW)] == []


def test_blocking_a_user_ends_the_keys_that_act_for_it(changes: AccessChanges, replica: AccessReplica) -> None:
    changes.put_user("acme", "ann", ["staff"])
    changes.grant(None, Grant("acme", EVERY_BASE, "ann", "viewer"))
    made = changes.make_key(ANN, "acme", READ)
    changes.block_user("acme", "ann", blocked=True)
    assert not works(made, replica)
    assert refusal(lambda: changes.make_key(ADMIN, "acme", KeyWanted(("query",), "ann"))) == "conflict"
    changes.block_user("acme", "ann", blocked=False)
    assert works(made, replica)


def test_a_base_is_made_once_and_changed_by_its_admins(changes: AccessChanges) -> None:
    base = KnowledgeBase("acme", "new", "nobody", filterable=("year",))
    assert refusal(lambda: changes.make_base(ANN, base)) == "forbidden"
    assert changes.make_base(ADMIN, base) == base == changes.state.base("acme", "new")
    assert refusal(lambda: changes.make_base(ADMIN, base)) == "conflict"
    assert refusal(lambda: changes.make_base(ADMIN, KnowledgeBase("acme", "a/b"))) == "validation-failed"

    keeper = Principal("kay", "acme", frozenset({"query", "ingest"}), {"new": "admin"}, via="session")
    assert changes.change_base(keeper, KnowledgeBase("acme", "new")).absent_access == "everyone"
    changes.grant(keeper, Grant("acme", "new", "staff", "viewer"))
    assert changes.state.roles("acme", ["staff"]) == {"new": "viewer"}
    changes.withdraw(keeper, "acme", "new", " staff ")
    assert changes.state.roles("acme", ["staff"]) == {}


@pytest.mark.parametrize(
    ("roles", "base", "kind"),
    [
        ({"kb": "editor"}, "kb", "forbidden"),
        ({"kb": "viewer"}, "kb", "forbidden"),
        ({}, "kb", "knowledge-base-not-found"),
        ({"kb": "admin"}, "theirs", "knowledge-base-not-found"),
        ({"*": "admin"}, "nowhere", "knowledge-base-not-found"),
        ({"*": "admin"}, EVERY_BASE, "forbidden"),  # its token was limited to less than admin
        ({"kb": "admin"}, EVERY_BASE, "knowledge-base-not-found"),
    ],
)
def test_who_is_no_admin_of_a_base_changes_nothing_there(
    changes: AccessChanges, topic: AccessTopic, roles: dict[str, Role], base: str, kind: str
) -> None:
    by = Principal("eve", "acme", frozenset({"query", "ingest"}), roles, via="session")
    before = len(topic.entries)

    assert refusal(lambda: changes.change_base(by, KnowledgeBase("acme", base))) == kind
    assert refusal(lambda: changes.grant(by, Grant("acme", base, "eve", "admin"))) == kind
    assert refusal(lambda: changes.withdraw(by, "acme", base, "ann")) == kind
    assert len(topic.entries) == before


def test_a_late_first_use_on_another_replica_does_not_open_a_base(topic: AccessTopic) -> None:
    here, there = AccessReplica(topic), AccessReplica(topic)
    closed = KnowledgeBase("acme", "new", "nobody")
    changes_on(here).make_base(ADMIN, closed)

    there.put(KnowledgeBase("acme", "new").used_entry())  # an upload that did not know yet

    for replica in (here, there, AccessReplica(topic.compacted())):
        replica.read()
        assert replica.base("acme", "new") == closed


def test_who_loses_a_race_for_a_base_is_told(topic: AccessTopic) -> None:
    here = AccessReplica(topic)
    theirs = KnowledgeBase("acme", "new", "everyone")
    here.meanwhile = lambda: topic.entries.append(theirs.entry())

    assert refusal(lambda: changes_on(here).make_base(ADMIN, KnowledgeBase("acme", "new", "nobody"))) == "conflict"
    assert here.base("acme", "new") == theirs


def test_a_password_needs_a_user_and_each_one_has_a_moment_of_its_own(changes: AccessChanges) -> None:
    assert refusal(lambda: changes.set_password("acme", "ann", "h")) == "not-found"
    changes.put_user("acme", "ann", [])
    moments = []
    for _ in range(3):
        changes.set_password("acme", "ann", "h")
        password = changes.state.password("acme", "ann")
        assert password is not None
        moments.append(password.set_ms)
    assert moments == [NOW, NOW + 1, NOW + 2]


def test_a_blocked_name_is_blocked_in_its_tenant_only(changes: AccessChanges) -> None:
    changes.block_user("acme", "ann", blocked=True)

    assert changes.state.blocked("acme", "ann")
    assert not changes.state.blocked("other", "ann")
    assert UserBlocked("acme", "ann").entry().id == "acme/ann"
