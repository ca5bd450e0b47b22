"""The JSON of login, API keys and knowledge bases. Unknown fields are refused. After it: `access.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runtime.access import ApiKey, KnowledgeBase, Role, Scope
from runtime.access_changes import LONGEST_OVERLAP_S

_DAY_S = 86_400


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LoginRequest(_Request):
    """Who logs in. tenant: where the user is, if not in the deployment's own."""

    username: str = Field(min_length=1, max_length=200)
    password: str = Field(min_length=1, max_length=1024)
    code: str | None = Field(None, pattern=r"^[0-9]{6}$", description="Of the authenticator app, for who has one.")
    tenant: str | None = Field(None, min_length=1, max_length=64)


class LoginResponse(BaseModel):
    """A token for `Authorization: Bearer`; expires_in are seconds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int


class MeResponse(BaseModel):
    """The caller. roles: by knowledge base, `*` is every one. via: what was shown. expires_ms: Unix time."""

    subject: str
    tenant: str
    scopes: list[str]
    roles: dict[str, str]
    groups: list[str]
    admin: bool
    mfa: bool
    via: Literal["key", "session", "token"]
    expires_ms: int | None


class KeyRequest(_Request):
    """A key to make; it never does more than its maker."""

    scopes: list[Scope] = Field(min_length=1, max_length=3)
    subject: str | None = Field(None, max_length=200, description="Whom it acts for; the maker. Another: admins only.")
    roles: dict[str, Role] | None = Field(None, max_length=1000, description="Knowledge base, or `*`: role.")
    groups: list[Annotated[str, Field(max_length=200)]] = Field([], max_length=1000)
    expires_days: int | None = Field(None, ge=1, le=36_500)
    note: str = Field("", max_length=200, description="What it is for.")

    @property
    def life_s(self) -> int | None:
        """How long it is to count."""
        return None if self.expires_days is None else self.expires_days * _DAY_S


class RotateRequest(_Request):
    """How long the old key still counts, so that all who use it can change over."""

    overlap_s: int = Field(_DAY_S, ge=0, le=LONGEST_OVERLAP_S)


class KeyBody(BaseModel):
    """A key, without itself: nobody can be shown it again. active: it counts now."""

    id: str
    subject: str
    scopes: list[str]
    roles: dict[str, str]
    groups: list[str]
    note: str
    made_ms: int
    made_by: str
    expires_ms: int | None
    active: bool
    replaces: str | None


class MadeKeyBody(KeyBody):
    """A key, shown this once."""

    key: str
    warning: str = "Keep the key now: it is not stored and cannot be shown again."


class KeysResponse(BaseModel):
    """Keys, by id."""

    keys: list[KeyBody]


class RevokedResponse(BaseModel):
    """replaced_by: keys that took this one's place and still count."""

    id: str
    replaced_by: list[str]


AbsentAccess = Literal["everyone", "nobody"]
Filterable = Annotated[
    list[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]] | None,
    Field(max_length=100, description="Metadata that searches may filter on; null: whatever documents bring."),
]
BasePolicy = Annotated[dict[str, Any], Field(description="What is done with personal data.")]


class BaseSettings(_Request):
    """What a knowledge base is like, said whole: no field may be left out, for that would open or unmask it.

    absent_access: who reads documents without an access list.
    """

    absent_access: AbsentAccess
    filterable: Filterable
    policy: BasePolicy


class BaseRequest(_Request):
    """A knowledge base to make."""

    name: str = Field(max_length=100)
    absent_access: AbsentAccess = "everyone"
    filterable: Filterable = None
    policy: BasePolicy = {}


class BaseBody(BaseModel):
    """A knowledge base, and the caller's role in it."""

    name: str
    absent_access: Literal["everyone", "nobody"]
    filterable: list[str] | None
    policy: dict[str, Any]
    role: str | None


class BasesResponse(BaseModel):
    """The knowledge bases in reach, by name."""

    knowledge_bases: list[BaseBody]


class RoleRequest(_Request):
    """The role of a user or a group."""

    role: Role


class RolesResponse(BaseModel):
    """Who has which role here: granted for this knowledge base, and for all of the tenant."""

    roles: dict[str, str]
    everywhere: dict[str, str]


def key_body(key: ApiKey, now_ms: int) -> dict[str, Any]:
    """The fields of KeyBody."""
    return {
        "id": key.id,
        "subject": key.subject,
        "scopes": list(key.scopes),
        "roles": dict(key.roles),
        "groups": list(key.groups),
        "note": key.note,
        "made_ms": key.made_ms,
        "made_by": key.made_by,
        "expires_ms": key.expires_ms,
        "active": key.alive(now_ms),
        "replaces": key.replaces,
    }


def base_body(base: KnowledgeBase, role: Role | None) -> BaseBody:
    """A knowledge base as it is shown."""
    return BaseBody(
        name=base.name,
        absent_access=base.absent_access,
        filterable=None if base.filterable is None else list(base.filterable),
        policy=base.policy.to_json(),
        role=role,
    )
