"""`thalweg access`, on one replica of the topic in memory: what it prints, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runtime.access import KnowledgeBase, digest
from runtime.access_changes import AccessChanges
from runtime.access_commands import app
from runtime.access_session import AccessSession
from runtime.clock import now_ms
from runtime.identity.passwords import Passwords
from runtime.identity.signing import Signing
from runtime.settings import load_settings
from schemas.records import AuditEntry
from tests.support.access_topic import AccessReplica, AccessTopic

SECRET = "5" * 64


class Audit:
    """What is confirmed, in order."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def confirm(self, entry: AuditEntry) -> None:
        self.entries.append(entry)


class Desk:
    """Where the operator sits."""

    def __init__(self, home: Path) -> None:
        self.topic, self.audit = AccessTopic(), Audit()
        self.settings = load_settings(
            {"THALWEG_HOME": str(home), "THALWEG_TENANT": "acme", "THALWEG_LOGIN__SECRET": SECRET}, folder=home
        )

    @property
    def replica(self) -> AccessReplica:
        return AccessReplica(self.topic)

    @contextmanager
    def session(self) -> Iterator[AccessSession]:
        changes = AccessChanges(self.replica, now_ms, longest_key_days=365)
        yield AccessSession(self.settings, changes, self.audit)  # type: ignore[arg-type]

    def run(self, *words: str, given: str | None = None) -> Any:
        return CliRunner().invoke(app, list(words), obj=self.session, input=given, catch_exceptions=False)

    def told(self, *words: str, given: str | None = None) -> Any:
        result = self.run(*words, "--json", given=given)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_key_is_made_listed_rotated_and_revoked(desk: Desk) -> None:
    words = ("--subject", "crawler", "--scope", "ingest", "--role", "kb=editor", "--days", "30")
    made = desk.told("keys", "create", *words)
    assert (made["scopes"], made["roles"], made["subject"]) == (["ingest"], {"kb": "editor"}, "crawler")
    assert desk.replica.find_key(digest(made["key"]), now_ms()) is not None
    (listed,) = desk.told("keys", "list")["keys"]
    assert listed["id"] == made["id"]
    assert "digest" not in listed
    assert made["key"] not in desk.run("keys", "list").stdout

    rotated = desk.told("keys", "rotate", made["id"], "--overlap-hours", "1")
    assert rotated["replaces"] == made["id"]
    assert desk.told("keys", "revoke", made["id"]) == {"id": made["id"], "replaced_by": [rotated["id"]]}
    assert desk.replica.find_key(digest(made["key"]), now_ms()) is None
    assert desk.run("keys", "revoke", "k_nobody").exit_code == 1


def test_a_user_is_made_given_a_password_and_a_second_factor_and_blocked(desk: Desk) -> None:
    assert desk.told("users", "put", "ann", "--group", "staff", "--role", "editor")["roles"] == {"*": "editor"}
    assert desk.told("users", "password", "ann", "--password-stdin", given="correct horse battery\n")
    stored = desk.replica.state.password("acme", "ann")
    assert stored is not None
    assert Passwords().matches(stored.hash, "correct horse battery")
    factor = desk.told("users", "second-factor", "ann")
    sealed = desk.replica.state.second_factor("acme", "ann")
    assert sealed is not None
    assert Signing(SECRET).unseal(sealed.sealed) == factor["secret"]

    # Another statement of the groups grants nothing anew: a role that was taken back stays away.
    desk.told("bases", "withdraw", "*", "ann")
    assert desk.told("users", "put", "ann", "--group", "board")["roles"] == {}
    assert desk.told("users", "block", "ann") == {"name": "ann", "blocked": True}
    (user,) = desk.told("users", "list")["users"]
    assert user == {
        "name": "ann", "groups": ["board"], "roles": {}, "blocked": True, "password": True, "second_factor": True,
    }  # fmt: skip
    desk.told("users", "unblock", "ann")
    assert not desk.replica.state.blocked("acme", "ann")


@pytest.mark.parametrize(
    "words",
    [
        ("users", "password", "nobody", "--password-stdin"),
        ("users", "second-factor", "nobody"),
        ("users", "put", " "),
        ("bases", "create", "a/b"),
        ("bases", "set", "nowhere", "--absent-access", "nobody"),
        ("bases", "grant", "nowhere", "ann", "viewer"),
        ("keys", "create", "--subject", "a,b", "--scope", "query"),
    ],
)
def test_what_is_refused_ends_with_one_and_says_why(desk: Desk, words: tuple[str, ...]) -> None:
    result = desk.run(*words, given="correct horse battery\n")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert desk.topic.entries == []


def test_a_short_password_is_refused_and_one_without_a_terminal_not_waited_for(desk: Desk) -> None:
    desk.run("users", "put", "ann")
    assert "12 to" in desk.run("users", "password", "ann", "--password-stdin", given="short\n").stderr
    assert "--password-stdin" in desk.run("users", "password", "ann").stderr


def test_a_base_is_made_and_what_is_not_named_stays_as_it_is(desk: Desk) -> None:
    words = ("--absent-access", "nobody", "--filterable", "year", "--policy", '{"mask": ["email"]}')
    desk.told("bases", "create", "kb", *words)
    changed = desk.told("bases", "set", "kb", "--filterable", "team")

    assert changed == {"name": "kb", "absent_access": "nobody", "filterable": ["team"], "policy": {"mask": ["email"]}}
    assert desk.told("bases", "list")["knowledge_bases"] == [changed]
    desk.told("bases", "grant", "kb", "staff", "viewer")
    assert desk.told("bases", "roles", "kb") == {"roles": {"staff": "viewer"}}
    desk.told("bases", "withdraw", "kb", "staff")
    assert desk.told("bases", "roles", "kb") == {"roles": {}}


def test_a_base_that_a_document_made_is_there_to_be_changed(desk: Desk) -> None:
    desk.replica.put(KnowledgeBase("acme", "used").used_entry())

    assert desk.told("bases", "set", "used", "--absent-access", "nobody")["absent_access"] == "nobody"


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "create", "--subject", "x", "--scope", "root"),
        ("keys", "create", "--subject", "x", "--scope", "query", "--role", "kb=owner"),
        ("bases", "create", "kb", "--policy", "{"),
        ("bases", "create", "kb", "--policy", '{"soul": 1}'),
        ("bases", "create", "kb", "--policy", "[]"),
        ("bases", "grant", "kb", "ann", "owner"),
    ],
)
def test_wrong_words_end_with_two(desk: Desk, words: tuple[str, ...]) -> None:
    assert desk.run(*words).exit_code == 2


def test_each_change_is_announced_before_it_is_done_and_names_no_secret(desk: Desk) -> None:
    desk.run("users", "put", "ann")
    desk.run("users", "password", "ann", "--password-stdin", given="correct horse battery\n")
    made = desk.told("keys", "create", "--subject", "ann", "--scope", "query")
    desk.run("keys", "revoke", "k_nobody")

    told = [(entry.action, entry.outcome) for entry in desk.audit.entries]
    assert told == [
        ("access.users.put", "begun"), ("access.users.put", "done"),
        ("access.users.password", "begun"), ("access.users.password", "done"),
        ("access.keys.create", "begun"), ("access.keys.create", "done"),
        ("access.keys.revoke", "begun"), ("access.keys.revoke", "failed"),
    ]  # fmt: skip
    written = json.dumps([vars(entry) for entry in desk.audit.entries], default=str)
    assert made["key"] not in written
    assert "battery" not in written


def test_names_cannot_move_the_terminals_cursor(desk: Desk) -> None:
    desk.told("keys", "create", "--subject", "x", "--scope", "query", "--note", "a\x1b[2Jb")

    assert "\x1b" not in desk.run("keys", "list").stdout
