"""Who a token is: the claims as settings read them, our own sessions, and what is looked up at each request."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from runtime.access import Principal
from runtime.access_changes import AccessChanges
from runtime.access_entries import Grant, UserBlocked, taken_back
from runtime.access_state import AccessState
from runtime.identity.build import token_callers
from runtime.identity.callers import SessionLife, TokenCallers
from runtime.identity.failures import Failures
from runtime.identity.logins import LoginRefused, Logins, TooManyTries, TryLimits
from runtime.identity.passwords import Codes, Passwords, _totp, new_second_factor, second_factor_uri
from runtime.identity.signing import SealBroken, Signing, kept_secret, signing_of
from runtime.identity.tokens import TokenRefused
from runtime.settings import Settings, SettingsError, load_settings
from tests.support.access_topic import AccessReplica, AccessTopic
from tests.unit.runtime.identity import issuer as idp

SECRET = "5" * 64
PASSWORD = "correct horse battery"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def settings_with(home: Path, **more: str) -> Settings:
    keys = home / "jwks.json"
    keys.write_bytes(idp.key_set(idp.jwk(idp.RSA, "one")))
    environment = {
        "THALWEG_HOME": str(home),
        "THALWEG_LOGIN__SECRET": SECRET,
        "THALWEG_OAUTH__ISSUER": idp.ISSUER,
        "THALWEG_OAUTH__AUDIENCE": idp.AUDIENCE,
        "THALWEG_OAUTH__JWKS_FILE": str(keys),
        **{f"THALWEG_{name}": value for name, value in more.items()},
    }
    return load_settings({name: value for name, value in environment.items() if value}, folder=home)


@pytest.fixture
def replica() -> AccessReplica:
    return AccessReplica(AccessTopic())


def callers_with(home: Path, replica: AccessReplica, **more: str) -> TokenCallers:
    settings = settings_with(home, **more)
    return token_callers(settings, replica.state, signing_of(settings), httpx.AsyncClient())


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class House:
    """Logins and sessions around one replica."""

    def __init__(self, replica: AccessReplica, *, life: SessionLife | None = None) -> None:
        self.clock, self.replica = Clock(), replica
        self.signing = Signing(SECRET)
        self.passwords = Passwords(QUICK)
        self.changes = AccessChanges(replica, lambda: int(self.clock.now * 1000), longest_key_days=365)
        self.logins = Logins(
            replica.state,
            self.signing,
            issuer="thalweg",
            life=life or SessionLife(3600, 28_800, 86_400),
            passwords=self.passwords,
            failures=Failures(300, clock=self.clock),
            limits=TryLimits(5, 50),
            codes=Codes(self.clock),
            now_s=self.clock,
        )

    def add(self, name: str, *groups: str, password: str = PASSWORD) -> None:
        self.changes.put_user("acme", name, groups)
        self.changes.set_password("acme", name, self.passwords.hash(password))

    async def login(self, name: str = "ann", password: str = PASSWORD, **more: Any) -> str:
        told = {"code": None, "address": "1.2.3.4", **more}
        return (await self.logins.login("acme", name, password, **told)).token


async def test_tenant_groups_roles_and_scopes_come_from_the_claims(tmp_path: Path, replica: AccessReplica) -> None:
    caller = await callers_with(tmp_path, replica).caller(
        idp.token(groups=["staff", " ", None, 5], roles=["thalweg-editor", "other"], scope="search:read openid")
    )

    assert caller == Principal(
        "ann", "acme", frozenset({"query"}), {"*": "editor"}, frozenset({"staff"}), via="token",
        expires_ms=caller.expires_ms,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "scopes", "roles"),
    [
        ({}, {"query", "ingest"}, {}),
        ({"roles": "thalweg-viewer"}, {"query", "ingest"}, {"*": "viewer"}),
        ({"roles": ["thalweg-viewer", "thalweg-admin"]}, {"query", "ingest", "admin"}, {"*": "admin"}),
        # A scope limits and grants nothing: whoever may be asked for `admin:replay` by a client is no admin by it.
        ({"scope": "admin:replay search:read documents:write"}, {"query", "ingest"}, {}),
        ({"scope": "admin:replay", "roles": ["thalweg-admin"]}, {"query", "ingest", "admin"}, {"*": "admin"}),
        ({"scope": ["search:read"], "roles": ["thalweg-admin"]}, {"query"}, {"*": "admin"}),
        ({"scope": "", "roles": ["thalweg-admin"]}, set(), {"*": "admin"}),
        ({"scope": 5}, set(), {}),
    ],
)
async def test_a_role_grants_and_a_scope_limits(
    tmp_path: Path, replica: AccessReplica, more: dict[str, Any], scopes: set[str], roles: dict[str, str]
) -> None:
    caller = await callers_with(tmp_path, replica).caller(idp.token(**more))

    assert (caller.scopes, caller.roles) == (scopes, roles)
    assert caller.admin is ("admin" in scopes)


async def test_a_claim_may_lie_deep_or_have_a_name_with_dots(tmp_path: Path, replica: AccessReplica) -> None:
    names = {"OAUTH__TENANT_CLAIM": "https://thalweg.example/tenant", "OAUTH__ROLE_CLAIM": "realm_access.roles"}

    caller = await callers_with(tmp_path, replica, **names).caller(
        idp.token(realm_access={"roles": ["thalweg-admin"]}, **{"https://thalweg.example/tenant": "globex"})
    )

    assert (caller.tenant, caller.admin) == ("globex", True)


@pytest.mark.parametrize("tenant", [None, "", " ", "a/b", "a" * 65, 5, ["acme"], "../x"])
async def test_a_token_without_a_tenant_is_refused_for_nothing_stands_in_for_it(
    tmp_path: Path, replica: AccessReplica, tenant: Any
) -> None:
    with pytest.raises(TokenRefused):
        await callers_with(tmp_path, replica).caller(idp.token(tenant=tenant))


async def test_what_is_granted_here_comes_on_top_and_a_blocked_name_stays_outside(
    tmp_path: Path, replica: AccessReplica
) -> None:
    callers = callers_with(tmp_path, replica)
    replica.put(Grant("acme", "kb", "staff", "editor").entry(), Grant("other", "*", "ann", "admin").entry())
    caller = await callers.caller(idp.token(groups=["staff"]))
    assert (caller.role_in("kb"), caller.role_in("other"), caller.admin) == ("editor", None, False)

    replica.put(UserBlocked("acme", "ann").entry())
    with pytest.raises(TokenRefused):
        await callers.caller(idp.token())


async def test_an_admin_without_a_second_factor_is_none_where_the_deployment_asks_for_one(
    tmp_path: Path, replica: AccessReplica
) -> None:
    callers = callers_with(tmp_path, replica, LOGIN__ADMIN_NEEDS_MFA="true")

    without = await callers.caller(idp.token(roles=["thalweg-admin"], amr=["pwd"]))
    assert (without.admin, without.role_in("kb"), without.mfa_missing) == (False, "editor", True)
    with_it = await callers.caller(idp.token(roles=["thalweg-admin"], amr=["pwd", "otp"]))
    assert (with_it.admin, with_it.mfa_missing) == (True, False)
    viewer = await callers.caller(idp.token(roles=["thalweg-viewer"]))
    assert not viewer.mfa_missing


async def test_who_logs_in_is_who_it_is_with_what_is_granted_now(tmp_path: Path, replica: AccessReplica) -> None:
    house, callers = House(replica), callers_with(tmp_path, replica)
    house.add("ann", "staff")
    token = await house.login()

    caller = await callers.caller(token)
    assert (caller.subject, caller.tenant, caller.via, caller.groups) == ("ann", "acme", "session", {"staff"})
    assert (caller.roles, caller.admin) == ({}, False)
    replica.put(Grant("acme", "kb", "staff", "editor").entry())
    assert (await callers.caller(token)).role_in("kb") == "editor"
    replica.put(taken_back(Grant("acme", "kb", "staff", "editor").entry()))
    assert (await callers.caller(token)).role_in("kb") is None


async def test_a_blocked_user_and_a_new_password_end_a_session_at_once(tmp_path: Path, replica: AccessReplica) -> None:
    house, callers = House(replica), callers_with(tmp_path, replica)
    house.add("ann")
    token = await house.login()

    house.changes.block_user("acme", "ann", blocked=True)
    with pytest.raises(TokenRefused):
        await callers.caller(token)
    with pytest.raises(LoginRefused):
        await house.login()
    house.changes.block_user("acme", "ann", blocked=False)
    assert (await callers.caller(token)).subject == "ann"
    house.changes.set_password("acme", "ann", house.passwords.hash("another good one"))
    with pytest.raises(TokenRefused):
        await callers.caller(token)


async def test_a_session_lives_as_long_as_the_role_says_and_a_stronger_role_shortens_it(
    tmp_path: Path, replica: AccessReplica
) -> None:
    house = House(replica)
    house.add("ann")
    for role, life in (("viewer", 86_400), ("editor", 28_800), ("admin", 3600)):
        replica.put(Grant("acme", "kb", "ann", role).entry())
        session = await house.logins.login("acme", "ann", PASSWORD, None, address="a")
        assert session.life_s == life

    replica.put(Grant("acme", "kb", "ann", "viewer").entry())
    house.clock.now -= 7200
    token = await house.login()
    callers = callers_with(tmp_path, replica)
    assert (await callers.caller(token)).subject == "ann"
    replica.put(Grant("acme", "kb", "ann", "admin").entry())
    with pytest.raises(TokenRefused) as caught:
        await callers.caller(token)
    assert caught.value.expired


async def test_a_session_of_another_deployment_or_secret_is_none(tmp_path: Path, replica: AccessReplica) -> None:
    house = House(replica)
    house.add("ann")
    token = await house.login()

    for more in ({"LOGIN__SECRET": "6" * 64}, {"LOGIN__ISSUER": "staging"}):
        with pytest.raises(TokenRefused):
            await callers_with(tmp_path, replica, **more).caller(token)
    # The identity provider cannot make one of our sessions, nor we one of its tokens.
    forged = idp.token(iss="thalweg", aud="thalweg", pwd=replica.state.password("acme", "ann").set_ms)
    with pytest.raises(TokenRefused):
        await callers_with(tmp_path, replica).caller(forged)


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("nobody", PASSWORD), ("ann", ""), ("bob", PASSWORD)])
async def test_a_wrong_login_is_refused_whatever_was_wrong(replica: AccessReplica, name: str, password: str) -> None:
    house = House(replica)
    house.add("ann")
    house.changes.put_user("acme", "bob", ())  # has no password

    with pytest.raises(LoginRefused):
        await house.login(name, password)
    with pytest.raises(LoginRefused):
        await house.logins.login("other", "ann", PASSWORD, None, address="a")


async def test_a_name_that_is_not_there_costs_the_hash_that_one_that_is_costs(replica: AccessReplica) -> None:
    """So the time tells nothing: counted, not measured."""
    checked: list[str] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002
            checked.append(str(hash).rsplit("$", 2)[0])
            return super().verify(hash, password)

    house = House(replica)
    house.passwords = Passwords(Counting(time_cost=1, memory_cost=8, parallelism=1))
    house.logins._passwords = house.passwords
    house.add("ann")
    for name in ("ann", "nobody"):
        with pytest.raises(LoginRefused):
            await house.login(name, "wrong")

    assert len(checked) == 2
    assert checked[0] == checked[1]  # the same parameters


async def test_failures_are_limited_by_user_and_address_and_others_may_still_come_in(replica: AccessReplica) -> None:
    house = House(replica)
    house.add("ann")
    for _ in range(5):
        with pytest.raises(LoginRefused):
            await house.login(password="wrong")

    with pytest.raises(TooManyTries) as caught:
        await house.login()  # the right one: a guesser must not learn that it is
    assert 0 < caught.value.again_s <= 300
    assert await house.login(address="5.6.7.8")
    house.clock.now += 301
    assert await house.login()


async def test_an_address_that_tries_many_names_is_stopped_too(replica: AccessReplica) -> None:
    house = House(replica)
    house.add("ann")
    for number in range(50):
        with pytest.raises(LoginRefused):
            await house.login(f"user{number}", "wrong")

    with pytest.raises(TooManyTries):
        await house.login()


async def test_logins_that_work_are_not_counted(replica: AccessReplica) -> None:
    house = House(replica)
    house.add("ann")
    for _ in range(60):
        assert await house.login()


async def test_a_second_factor_is_asked_for_and_its_code_counts_once(tmp_path: Path, replica: AccessReplica) -> None:
    house = House(replica)
    house.add("ann")
    secret = new_second_factor()
    house.changes.set_second_factor("acme", "ann", house.signing.seal(secret))
    assert secret not in "".join(entry.body for entry in replica.topic.entries)

    def code(back_s: int = 0) -> str:
        return _totp(secret).generate(int(house.clock.now) - back_s).decode()

    wrong = f"{(int(code()) + 1) % 1_000_000:06d}"
    for given in (None, wrong, code(120)):
        with pytest.raises(LoginRefused):
            await house.login(code=given)
    with pytest.raises(LoginRefused):
        await house.login(password="wrong", code=code(30))
    used = code()
    caller = await callers_with(tmp_path, replica).caller(await house.login(code=used))
    assert caller.mfa
    with pytest.raises(LoginRefused):
        await house.login(code=used, address="other")


def test_the_secret_is_made_once_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "login-secret"

    made = kept_secret(file)

    assert len(made) == 64
    assert file.stat().st_mode & 0o777 == 0o600
    assert kept_secret(file) == made
    assert [path.name for path in file.parent.iterdir()] == ["login-secret"]


def test_two_processes_that_start_at_once_have_one_secret(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(lambda _: kept_secret(tmp_path / "keys" / "login-secret"), range(16)))

    assert len(made) == 1


def test_a_short_secret_is_refused_and_another_one_unseals_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="shorter than 32"):
        signing_of(settings_with(tmp_path, LOGIN__SECRET="hunter2"))
    sealed = Signing(SECRET).seal("text")
    assert Signing(SECRET).unseal(sealed) == "text"
    with pytest.raises(SealBroken):
        Signing("6" * 64).unseal(sealed)


def test_without_a_place_for_a_secret_nobody_logs_in_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_with(tmp_path, LOGIN__SECRET="")

    def refused(*args: object, **more: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refused)
    assert signing_of(settings) is None


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("OAUTH__AUDIENCE", "", "audience is missing"),
        ("OAUTH__JWKS_URL", "https://x/keys", "one of jwks_url and jwks_file"),
        ("OAUTH__ALGORITHMS", "RS256,HS256", "oauth.algorithms"),
        ("OAUTH__ALGORITHMS", "none", "oauth.algorithms"),
        ("OAUTH__ALGORITHMS", " , ", "oauth.algorithms"),
        ("OAUTH__SCOPES", "a=b", "oauth.scopes"),
        ("OAUTH__ROLES", "admin", "oauth.roles"),
        ("LOGIN__ISSUER", idp.ISSUER, "oauth.issuer is login.issuer"),
    ],
)
def test_settings_that_would_let_others_in_are_refused(
    tmp_path: Path, replica: AccessReplica, setting: str, value: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        callers_with(tmp_path, replica, **{setting: value})


def test_the_app_reads_what_it_needs_from_one_line() -> None:
    assert second_factor_uri("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", user="ann", issuer="thalweg").startswith(
        "otpauth://totp/"
    )


def test_failures_are_kept_in_bounded_room() -> None:
    failures = Failures(300, clock=lambda: 0.0, capacity=100)
    for number in range(10_000):
        assert failures.begin([(f"name {number}", 1)]) == 0

    assert len(failures._windows) == 100


def test_a_state_is_enough_for_sessions() -> None:
    """The principal of a person has its roles, and is an admin only of all knowledge bases."""
    state = AccessState()
    state.take(Grant("acme", "kb", "ann", "admin").entry())
    person = state.person("acme", "ann", ())
    assert (person.admin, person.role_in("kb")) == (False, "admin")
    assert replace(person, roles={"*": "admin"}).without_admin().roles == {"*": "editor"}
