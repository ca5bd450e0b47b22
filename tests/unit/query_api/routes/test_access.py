"""Login, API keys and knowledge bases over HTTP, on one replica of the topic in memory."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import httpx
import pytest

from runtime.access import SCOPES, KnowledgeBase
from runtime.access_changes import AccessChanges
from runtime.access_entries import Grant
from runtime.identity.callers import ClaimRules, SessionLife, TokenCallers
from runtime.identity.failures import Failures
from runtime.identity.logins import Logins, TryLimits
from runtime.identity.passwords import Codes, Passwords
from runtime.identity.signing import ALGORITHM, Signing
from runtime.identity.tokens import Issuer
from runtime.producer import DeliveryFailed
from tests.support.access_topic import AccessReplica, AccessTopic
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex
from tests.unit.query_api.fakes import Parts, api_key, app_around, people_of
from tests.unit.runtime.identity.test_callers import PASSWORD, QUICK, Clock

RULES = ClaimRules("tenant", "groups", "scope", "roles", {}, {}, frozenset())
SETTINGS = {"absent_access": "nobody", "filterable": None, "policy": {}}
LIFE = SessionLife(3600, 28_800, 86_400)


class Site:
    """The query API for two tenants with people in them."""

    def __init__(self, *, admin_needs_mfa: bool = False) -> None:
        self.topic = AccessTopic(
            api_key("tw_admin", scopes=SCOPES).entry(),
            api_key("tw_reader", roles={"kb": "viewer"}).entry(),
            api_key("tw_stranger", tenant="other", scopes=SCOPES).entry(),
            KnowledgeBase("acme", "kb").entry(),
            KnowledgeBase("acme", "secret", "nobody").entry(),
            KnowledgeBase("other", "theirs").entry(),
        )
        self.replica = AccessReplica(self.topic)
        signing, clock, passwords = Signing("5" * 64), Clock(), Passwords(QUICK)
        changes = AccessChanges(self.replica, lambda: int(clock() * 1000), longest_key_days=365)
        for name, grants in (("ann", {"kb": "editor"}), ("kay", {"kb": "admin"}), ("boss", {"*": "admin"})):
            changes.put_user("acme", name, ["staff"])
            changes.set_password("acme", name, passwords.hash(PASSWORD))
            for base, role in grants.items():
                changes.grant(None, Grant("acme", base, name, role))
        logins = Logins(
            self.replica.state, signing, issuer="thalweg", life=LIFE, passwords=passwords, codes=Codes(clock),
            failures=Failures(300), limits=TryLimits(5, 50), now_s=clock,
        )  # fmt: skip
        ours = Issuer("thalweg", "thalweg", frozenset({ALGORITHM}), signing)
        tokens = TokenCallers(
            self.replica.state, ours=ours, theirs=None, rules=RULES, life=LIFE, admin_needs_mfa=admin_needs_mfa,
            now_s=clock,
        )  # fmt: skip
        people = people_of(self.replica, logins=logins)
        self.parts: Parts = app_around(
            FakeIndex(),
            FakeEmbedder(),
            directory=self.replica,
            people=people,
            tokens=tokens,  # type: ignore[arg-type]
        )

    async def ask(self, who: str | None, method: str, path: str, body: Any = None) -> httpx.Response:
        """who: a key, or the name of somebody who logs in."""
        held = who if who is None or who.startswith("tw_") else await self.token(who)
        headers = {} if held is None else {"Authorization": f"Bearer {held}"}
        client = httpx.AsyncClient(transport=self.parts.client._transport, base_url="http://test", headers=headers)
        return await client.request(method, path, json=body)

    async def token(self, name: str) -> str:
        answered = await self.ask(None, "POST", "/v1/login", {"username": name, "password": PASSWORD})
        assert answered.status_code == 200, answered.text
        return str(answered.json()["access_token"])


@pytest.fixture
def site() -> Site:
    return Site()


def kind(answered: httpx.Response) -> str:
    assert answered.headers["Content-Type"] == "application/problem+json"
    return str(answered.json()["type"]).removeprefix("/problems/")


async def test_a_login_gives_a_token_that_says_who_one_is(site: Site) -> None:
    answered = await site.ask(None, "POST", "/v1/login", {"username": "ann", "password": PASSWORD})

    told = answered.json()
    assert (set(told), told["token_type"], told["expires_in"]) == (
        {"access_token", "token_type", "expires_in"}, "bearer", 28_800,
    )  # fmt: skip
    assert answered.headers["Cache-Control"] == "no-store"
    me = (await site.ask("ann", "GET", "/v1/users/me")).json()
    assert (me["subject"], me["tenant"], me["roles"], me["groups"], me["admin"], me["via"]) == (
        "ann", "acme", {"kb": "editor"}, ["staff"], False, "session",
    )  # fmt: skip
    by_key = (await site.ask("tw_reader", "GET", "/v1/users/me")).json()
    assert (by_key["subject"], by_key["via"], by_key["expires_ms"]) == ("tw_reader", "key", None)


async def test_a_login_that_fails_tells_nothing_and_leaves_no_password_in_the_log(site: Site, log: StringIO) -> None:
    bodies = [
        {"username": "ann", "password": "canary-wrong"},
        {"username": "nobody", "password": "canary-wrong"},
        {"username": "ann", "password": PASSWORD, "tenant": "other"},
    ]
    answers = [await site.ask(None, "POST", "/v1/login", body) for body in bodies]

    told = [{**answer.json(), "instance": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert told[0] == told[1] == told[2]
    assert told[0]["type"] == "/problems/login-refused"
    assert "canary" not in log.getvalue()
    assert "canary" not in json.dumps([entry.detail for entry in site.parts.audit.entries])


async def test_too_many_failures_are_a_429_with_its_end(site: Site) -> None:
    body = {"username": "ann", "password": "wrong"}
    codes = [(await site.ask(None, "POST", "/v1/login", body)).status_code for _ in range(6)]
    answered = await site.ask(None, "POST", "/v1/login", body)

    assert codes == [401, 401, 401, 401, 401, 429]
    assert 0 < int(answered.headers["Retry-After"]) <= 300


@pytest.mark.parametrize(
    "body",
    [{}, {"username": "ann"}, {"username": "ann", "password": "x" * 1025},
     {"username": "ann", "password": "p", "code": "12"}, {"username": "ann", "password": "p", "admin": True}],
)  # fmt: skip
async def test_an_odd_login_is_a_422(site: Site, body: dict[str, Any]) -> None:
    assert kind(await site.ask(None, "POST", "/v1/login", body)) == "validation-failed"


async def test_a_key_is_made_used_rotated_and_revoked(site: Site) -> None:
    made = await site.ask("ann", "POST", "/v1/api-keys", {"scopes": ["query"], "note": "notebook", "expires_days": 30})
    assert made.status_code == 201
    key, name = made.json()["key"], made.json()["id"]
    assert "digest" not in made.text
    me = (await site.ask(key, "GET", "/v1/users/me")).json()
    assert (me["subject"], me["roles"], me["scopes"]) == ("ann", {"kb": "viewer"}, ["query"])
    listed = await site.ask("ann", "GET", "/v1/api-keys")
    assert [item["id"] for item in listed.json()["keys"]] == [name]
    assert key not in listed.text

    rotated = (await site.ask("ann", "POST", f"/v1/api-keys/{name}/rotate", {"overlap_s": 60})).json()
    for held in (key, rotated["key"]):
        assert (await site.ask(held, "GET", "/v1/users/me")).status_code == 200
    revoked = await site.ask("ann", "DELETE", f"/v1/api-keys/{name}")
    assert revoked.json() == {"id": name, "replaced_by": [rotated["id"]]}
    assert (await site.ask(key, "GET", "/v1/users/me")).status_code == 401
    assert (await site.ask(rotated["key"], "GET", "/v1/users/me")).status_code == 200


@pytest.mark.parametrize(
    ("who", "asked", "body", "wanted"),
    [
        ("ann", "POST /v1/api-keys", {"scopes": ["admin"]}, (403, "forbidden")),
        ("ann", "POST /v1/api-keys", {"scopes": ["query"], "subject": "boss"}, (403, "forbidden")),
        ("ann", "POST /v1/api-keys", {"scopes": ["query"], "tenant": "other"}, (422, "validation-failed")),
        ("ann", "POST /v1/api-keys", {"scopes": []}, (422, "validation-failed")),
        ("ann", "POST /v1/api-keys", {"scopes": ["root"]}, (422, "validation-failed")),
        ("tw_reader", "POST /v1/api-keys", {"scopes": ["query"]}, (403, "forbidden")),
        ("ann", "DELETE /v1/api-keys/tw_admin", None, (404, "key-not-found")),
        ("tw_stranger", "DELETE /v1/api-keys/tw_admin", None, (404, "key-not-found")),
        ("tw_stranger", "POST /v1/api-keys/tw_admin/rotate", {}, (404, "key-not-found")),
        ("ann", "POST /v1/knowledge-bases", {"name": "new"}, (403, "forbidden")),
        ("boss", "POST /v1/knowledge-bases", {"name": "kb"}, (409, "conflict")),
        ("boss", "POST /v1/knowledge-bases", {"name": "a b"}, (422, "validation-failed")),
        ("boss", "POST /v1/knowledge-bases", {"name": "n", "policy": {"mask": ["soul"]}}, (422, "validation-failed")),
        ("boss", "POST /v1/knowledge-bases", {"name": "n", "filterable": ["a-b"]}, (422, "validation-failed")),
        ("ann", "PUT /v1/knowledge-bases/kb", SETTINGS, (403, "forbidden")),
        ("kay", "PUT /v1/knowledge-bases/secret", SETTINGS, (404, "knowledge-base-not-found")),
        ("tw_stranger", "PUT /v1/knowledge-bases/kb", SETTINGS, (404, "knowledge-base-not-found")),
        ("tw_stranger", "GET /v1/knowledge-bases/kb", None, (404, "knowledge-base-not-found")),
        ("kay", "PUT /v1/knowledge-bases/kb", {"filterable": None, "policy": {}}, (422, "validation-failed")),
        (
            "kay",
            "PUT /v1/knowledge-bases/kb",
            {"absent_access": "nobody", "filterable": None},
            (422, "validation-failed"),
        ),
        ("ann", "GET /v1/knowledge-bases/kb/roles", None, (403, "forbidden")),
        ("ann", "PUT /v1/knowledge-bases/kb/roles/ann", {"role": "admin"}, (403, "forbidden")),
        ("kay", "PUT /v1/knowledge-bases/*/roles/kay", {"role": "admin"}, (404, "knowledge-base-not-found")),
        ("kay", "PUT /v1/knowledge-bases/kb/roles/eve", {"role": "owner"}, (422, "validation-failed")),
        ("kay", "PUT /v1/knowledge-bases/kb/roles/a,b", {"role": "viewer"}, (422, "validation-failed")),
        ("tw_stranger", "DELETE /v1/knowledge-bases/kb/roles/ann", None, (404, "knowledge-base-not-found")),
    ],
)
async def test_what_is_not_allowed_or_not_there_is_told_and_changes_nothing(
    site: Site, who: str, asked: str, body: Any, wanted: tuple[int, str]
) -> None:
    before = len(site.topic.entries)

    answered = await site.ask(who, *asked.split(), body)

    assert (answered.status_code, kind(answered)) == wanted
    assert len(site.topic.entries) == before


async def test_a_knowledge_base_is_made_seen_by_whom_it_concerns_and_changed(site: Site) -> None:
    body = {"name": "new", "absent_access": "nobody", "filterable": ["year"], "policy": {"mask": ["email"]}}
    made = await site.ask("boss", "POST", "/v1/knowledge-bases", body)
    assert made.status_code == 201
    assert made.json() == {**body, "role": "admin"}
    seen = [item["name"] for item in (await site.ask("boss", "GET", "/v1/knowledge-bases")).json()["knowledge_bases"]]
    assert seen == ["kb", "new", "secret"]
    of_ann = (await site.ask("ann", "GET", "/v1/knowledge-bases")).json()["knowledge_bases"]
    assert [(item["name"], item["role"]) for item in of_ann] == [("kb", "editor")]

    changed = await site.ask("kay", "PUT", "/v1/knowledge-bases/kb", SETTINGS)
    assert changed.json()["absent_access"] == "nobody"
    assert site.replica.base("acme", "kb") == KnowledgeBase("acme", "kb", "nobody")


async def test_a_role_is_given_and_taken_back_and_holds_at_once(site: Site) -> None:
    path = "/v1/knowledge-bases/secret/roles/staff"
    assert (await site.ask("ann", "GET", "/v1/knowledge-bases/secret")).status_code == 404
    assert (await site.ask("boss", "PUT", path, {"role": "viewer"})).status_code == 200
    assert (await site.ask("ann", "GET", "/v1/knowledge-bases/secret")).json()["role"] == "viewer"
    told = (await site.ask("boss", "GET", "/v1/knowledge-bases/secret/roles")).json()
    assert told == {"roles": {"staff": "viewer"}, "everywhere": {"boss": "admin"}}

    assert (await site.ask("boss", "DELETE", path)).status_code == 204
    assert (await site.ask("ann", "GET", "/v1/knowledge-bases/secret")).status_code == 404


async def test_a_group_whose_name_has_slashes_can_have_a_role(site: Site) -> None:
    await site.ask("boss", "PUT", "/v1/knowledge-bases/kb/roles//org/team", {"role": "viewer"})

    assert site.replica.state.roles("acme", ["/org/team"]) == {"kb": "viewer"}


async def test_an_admin_without_a_second_factor_is_told_what_is_missing() -> None:
    site = Site(admin_needs_mfa=True)

    me = (await site.ask("boss", "GET", "/v1/users/me")).json()
    assert (me["admin"], me["roles"]) == (False, {"*": "editor"})
    assert (await site.ask("boss", "POST", "/v1/knowledge-bases", {"name": "new"})).status_code == 403
    assert kind(await site.ask("boss", "POST", "/v1/knowledge-bases", {"name": "new"})) == "mfa-required"


async def test_without_kafka_a_change_is_a_503_and_reading_goes_on(site: Site) -> None:
    def away(*entries: object) -> None:
        raise DeliveryFailed("away", retriable=True)

    site.replica.put = away  # type: ignore[method-assign]

    answered = await site.ask("boss", "POST", "/v1/knowledge-bases", {"name": "new"})
    assert (answered.status_code, kind(answered), answered.headers["Retry-After"]) == (503, "unavailable", "5")
    assert (await site.ask("boss", "GET", "/v1/knowledge-bases")).status_code == 200


async def test_every_change_is_in_the_audit_before_it_is_done(site: Site) -> None:
    await site.ask("boss", "POST", "/v1/knowledge-bases", {"name": "new"})
    await site.ask("boss", "POST", "/v1/api-keys", {"scopes": ["query"]})
    await site.ask("boss", "PUT", "/v1/knowledge-bases/kb/roles/eve", {"role": "viewer"})

    begun = [entry.action for entry in site.parts.audit.entries if entry.outcome == "begun"]
    assert begun == [
        "POST /v1/knowledge-bases", "POST /v1/api-keys", "PUT /v1/knowledge-bases/{name}/roles/{who:path}",
    ]  # fmt: skip
