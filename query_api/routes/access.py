"""`/v1/login`, `/v1/users/me`, `/v1/api-keys`, `/v1/knowledge-bases`. Before it: `app.py`.

After it: `runtime/access_changes.py`, which decides who may change what. Each change is announced in the audit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Request

from query_api.routes.access_models import (
    BaseBody,
    BaseRequest,
    BaseSettings,
    BasesResponse,
    KeyBody,
    KeyRequest,
    KeysResponse,
    LoginRequest,
    LoginResponse,
    MadeKeyBody,
    MeResponse,
    RevokedResponse,
    RoleRequest,
    RolesResponse,
    RotateRequest,
    base_body,
    key_body,
)
from runtime.access import EVERY_BASE, KnowledgeBase, Principal
from runtime.access_changes import AccessChanges, ChangeRefused, KeyWanted
from runtime.access_entries import Grant
from runtime.directory import NotReadBack
from runtime.identity.logins import LoginRefused, Logins, TooManyTries
from runtime.privacy.policy import Policy, PolicyRefused
from runtime.producer import DeliveryFailed
from runtime.web import audit
from runtime.web.identity import Caller, changing
from runtime.web.known_first import KnownFirst
from runtime.web.problems import FieldError, Problem
from schemas.registry import NotRegistered, RegistryUnavailable

Changer = Annotated[Principal, Depends(changing)]
KeyId = Annotated[str, Path(min_length=1, max_length=100)]
BaseName = Annotated[str, Path(min_length=1, max_length=100)]
Who = Annotated[str, Path(min_length=1, max_length=200, description="A user or a group.")]
T = TypeVar("T")

_AGAIN = {"Retry-After": "5"}
_LATER = {"Retry-After": "3600"}
"""Of what an operator has to change first."""


@dataclass(frozen=True)
class People:
    """What the routes need. logins: None where nobody logs in here. tenant: of users who name none."""

    changes: AccessChanges
    logins: Logins | None
    tenant: str
    now_ms: Callable[[], int]


def open_router(people: People) -> APIRouter:
    """`/v1/login`, where nobody is known yet."""
    routes = APIRouter(prefix="/v1", tags=["access"])
    _add_login(routes, people)
    return routes


def router(people: People) -> APIRouter:
    """All others."""
    routes = APIRouter(prefix="/v1", tags=["access"], route_class=KnownFirst)
    _add_me(routes)
    _add_keys(routes, people)
    _add_bases(routes, people)
    _add_roles(routes, people.changes)
    return routes


def _add_login(routes: APIRouter, people: People) -> None:
    @routes.post("/login", summary="A token for a name and a password")
    async def login(body: LoginRequest, request: Request) -> LoginResponse:
        """The token is short-lived and carries no rights: they are looked up at each request."""
        if people.logins is None:
            raise Problem(
                "unavailable", "Nobody logs in here: the deployment has no THALWEG_LOGIN__SECRET.", headers=_LATER
            )
        tenant = body.tenant or people.tenant
        audit.note(username=body.username)
        address = request.client.host if request.client else "unknown"
        try:
            session = await people.logins.login(tenant, body.username, body.password, body.code, address=address)
        except LoginRefused as error:
            refused = {"WWW-Authenticate": 'Bearer realm="thalweg"'}
            raise Problem("login-refused", "Name, password or code is wrong.", headers=refused) from error
        except TooManyTries as error:
            again = {"Retry-After": str(max(1, round(error.again_s)))}
            raise Problem("too-many-requests", "Too many logins failed or are under way.", headers=again) from error
        request.state.subject, request.state.tenant = body.username, tenant
        return LoginResponse(access_token=session.token, expires_in=session.life_s)


def _add_me(routes: APIRouter) -> None:
    @routes.get("/users/me", summary="Who am I, and what may I do?")
    async def me(caller: Caller) -> MeResponse:
        return MeResponse(
            subject=caller.subject,
            tenant=caller.tenant,
            scopes=sorted(caller.scopes),
            roles={EVERY_BASE: "admin"} if caller.admin else dict(caller.roles),
            groups=sorted(caller.groups),
            admin=caller.admin,
            mfa=caller.mfa,
            via=caller.via,
            expires_ms=caller.expires_ms,
        )


def _add_keys(routes: APIRouter, people: People) -> None:
    changes = people.changes

    @routes.get("/api-keys", summary="API keys: an admin sees the tenant's, others their own")
    async def keys(caller: Caller) -> KeysResponse:
        now = people.now_ms()
        return KeysResponse(keys=[KeyBody(**key_body(key, now)) for key in changes.keys(caller, caller.tenant)])

    @routes.post("/api-keys", status_code=201, summary="Make an API key; it is shown this once")
    async def make(body: KeyRequest, caller: Changer) -> MadeKeyBody:
        wanted = KeyWanted(tuple(body.scopes), body.subject, body.roles, tuple(body.groups), body.life_s, body.note)
        made = await _done(lambda: changes.make_key(caller, caller.tenant, wanted))
        audit.note(key=made.key.id, subject_of_key=made.key.subject, scopes=made.key.scopes)
        return MadeKeyBody(**key_body(made.key, people.now_ms()), key=made.secret)

    @routes.post("/api-keys/{key_id}/rotate", status_code=201, summary="Replace a key; both count for a while")
    async def rotate(key_id: KeyId, body: RotateRequest, caller: Changer) -> MadeKeyBody:
        made = await _done(lambda: changes.rotate_key(caller, caller.tenant, key_id, overlap_s=body.overlap_s))
        audit.note(key=made.key.id, replaces=key_id)
        return MadeKeyBody(**key_body(made.key, people.now_ms()), key=made.secret)

    @routes.delete("/api-keys/{key_id}", summary="Revoke a key, for ever")
    async def revoke(key_id: KeyId, caller: Changer) -> RevokedResponse:
        """It counts no more here when this is answered, and on every replica that reads the topic a moment later."""
        left = await _done(lambda: changes.revoke_key(caller, caller.tenant, key_id))
        audit.note(key=key_id)
        return RevokedResponse(id=key_id, replaced_by=[key.id for key in left])


def _add_bases(routes: APIRouter, people: People) -> None:
    changes = people.changes

    @routes.get("/knowledge-bases", summary="The knowledge bases in reach")
    async def bases(caller: Caller) -> BasesResponse:
        known = [(base, caller.role_in(base.name)) for base in changes.state.bases(caller.tenant)]
        return BasesResponse(knowledge_bases=[base_body(base, role) for base, role in known if role is not None])

    @routes.post("/knowledge-bases", status_code=201, summary="Make a knowledge base")
    async def make(body: BaseRequest, caller: Changer) -> BaseBody:
        made = await _done(lambda: changes.make_base(caller, _base(caller.tenant, body.name, body)))
        return base_body(made, caller.role_in(made.name))

    @routes.get("/knowledge-bases/{name}", summary="A knowledge base")
    async def one(name: BaseName, caller: Caller) -> BaseBody:
        found, role = changes.state.base(caller.tenant, name), caller.role_in(name)
        if found is None or role is None:
            raise Problem("knowledge-base-not-found", f"No knowledge base {name!r} that you may see.")
        return base_body(found, role)

    @routes.put("/knowledge-bases/{name}", summary="Say anew what a knowledge base is like")
    async def change(name: BaseName, body: BaseSettings, caller: Changer) -> BaseBody:
        """Every field is asked for: one that was left out would fall back, and open what is closed."""
        made = await _done(lambda: changes.change_base(caller, _base(caller.tenant, name, body)))
        return base_body(made, caller.role_in(name))


def _add_roles(routes: APIRouter, changes: AccessChanges) -> None:
    @routes.get("/knowledge-bases/{name}/roles", summary="Who has which role in a knowledge base")
    async def roles(name: BaseName, caller: Caller) -> RolesResponse:
        await _done(lambda: changes.administered(caller, caller.tenant, name))
        state = changes.state
        here, everywhere = state.grants(caller.tenant, name), state.grants(caller.tenant, EVERY_BASE)
        return RolesResponse(
            roles={grant.who: grant.role for grant in here}, everywhere={grant.who: grant.role for grant in everywhere}
        )

    @routes.put("/knowledge-bases/{name}/roles/{who:path}", summary="Give a role to a user or a group")
    async def grant(name: BaseName, who: Who, body: RoleRequest, caller: Changer) -> RoleRequest:
        """name `*`: in every knowledge base."""
        await _done(lambda: changes.grant(caller, Grant(caller.tenant, name, who, body.role)))
        audit.note(who=who, role=body.role)
        return body

    @routes.delete("/knowledge-bases/{name}/roles/{who:path}", status_code=204, summary="Take a role back")
    async def withdraw(name: BaseName, who: Who, caller: Changer) -> None:
        await _done(lambda: changes.withdraw(caller, caller.tenant, name, who))
        audit.note(who=who)


def _base(tenant: str, name: str, said: BaseSettings | BaseRequest) -> KnowledgeBase:
    """Raises Problem 422 for a policy that is none."""
    try:
        policy = Policy.from_json(said.policy)
    except PolicyRefused as error:
        wrong = FieldError(f"policy.{error.field}", error.message, error.fix)
        raise Problem("validation-failed", f"policy.{error}.", errors=[wrong]) from error
    filterable = None if said.filterable is None else tuple(sorted(set(said.filterable)))
    return KnowledgeBase(tenant, name, said.absent_access, policy, filterable)


async def _done(change: Callable[[], T]) -> T:
    """Make a change in a thread: it waits for Kafka. Raises Problem."""
    try:
        return await asyncio.to_thread(change)
    except ChangeRefused as error:
        errors = [FieldError(error.field, str(error), error.fix)] if error.field else []
        raise Problem(error.kind, str(error), errors=errors) from error
    except NotReadBack as error:
        told = "It is written, but was not read back in time: look whether it is there before you try again."
        raise Problem("unavailable", told, headers=_AGAIN) from error
    except (DeliveryFailed, RegistryUnavailable, NotRegistered) as error:
        raise Problem("unavailable", "Kafka or the registry did not take the change.", headers=_AGAIN) from error
