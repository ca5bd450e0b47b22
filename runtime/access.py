"""Who is asking, and what may they do: principals, scopes, roles, API keys. The entries live in the topic `access`.

Before this: `schemas/records.py` (AccessEntry). After this: `access_entries.py` (users, grants), `access_state.py`.
A role is granted, a scope limits: whoever holds a key or token does what role and scope both allow.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from runtime.privacy.policy import Policy
from schemas.access_names import access_name
from schemas.records import AccessEntry

Scope = Literal["ingest", "query", "admin"]
Role = Literal["viewer", "editor", "admin"]
SCOPES: tuple[Scope, ...] = ("ingest", "query", "admin")
ROLES: tuple[Role, ...] = ("viewer", "editor", "admin")
"""From the weakest to the strongest: a viewer reads, an editor also writes, an admin also changes the base itself."""

EVERY_BASE = "*"
"""Stands for every knowledge base of the tenant in a map of roles."""


def strongest(roles: Iterable[Role | None]) -> Role | None:
    """The strongest of the roles that are there."""
    return max((role for role in roles if role is not None), key=ROLES.index, default=None)


def role_in(roles: Mapping[str, Role], knowledge_base: str) -> Role | None:
    """The role in a knowledge base: what is granted there or everywhere, for a grant never takes away."""
    return strongest((roles.get(knowledge_base), roles.get(EVERY_BASE)))


def both_roles(one: Mapping[str, Role], other: Mapping[str, Role]) -> dict[str, Role]:
    """The roles that both maps give, in each knowledge base the weaker one."""
    found: dict[str, Role] = {}
    for base in {*one, *other}:
        mine, theirs = role_in(one, base), role_in(other, base)
        if mine is not None and theirs is not None:
            found[base] = min(mine, theirs, key=ROLES.index)
    return found


@dataclass(frozen=True)
class Principal:
    """A caller whose key or token was verified: the tenant comes from here and from nowhere else.

    groups are the names a document's access list may hold: the subject itself, and its groups. roles map a knowledge
    base to a role; `*` is every one. via: what was shown; expires_ms: until when it counts, None for ever.
    mfa_missing: it would be an admin, but the deployment asks admins for a second factor and the token tells of none.
    """

    subject: str
    tenant: str
    scopes: frozenset[Scope]
    roles: Mapping[str, Role]
    groups: frozenset[str] = frozenset()
    via: Literal["key", "session", "token"] = "key"
    expires_ms: int | None = None
    mfa: bool = False
    mfa_missing: bool = False

    @property
    def admin(self) -> bool:
        """May do everything within the tenant."""
        return "admin" in self.scopes

    def may(self, scope: Scope) -> bool:
        """True if the key carries the scope."""
        return self.admin or scope in self.scopes

    def role_in(self, knowledge_base: str) -> Role | None:
        """The caller's role in a knowledge base, None if none."""
        return "admin" if self.admin else role_in(self.roles, knowledge_base)

    @property
    def readers(self) -> frozenset[str]:
        """The names under which a document's access list admits this caller."""
        return reader_names(self.subject, self.groups)

    def without_admin(self) -> Principal:
        """The same caller before its second factor: an editor where it is an admin, and no more."""
        if not self.admin and "admin" not in self.roles.values():
            return self
        roles: dict[str, Role] = {base: "editor" if role == "admin" else role for base, role in self.roles.items()}
        return replace(self, scopes=self.scopes - {"admin"}, roles=roles, mfa_missing=True)


def reader_names(subject: str, groups: Iterable[str]) -> frozenset[str]:
    """The subject and its groups as access lists and grants name them; a blank one is no name."""
    return frozenset(name for given in (subject, *groups) if (name := access_name(given)) is not None)


@dataclass(frozen=True)
class ApiKey:
    """A key as it is stored: never the key itself, only its SHA-256 (a key is 256 random bits: no salt is needed).

    Its entry is written once and never again: what ends it (`access_entries.KeyRevoked`, `KeyEnd`) is an entry of its
    own. active and a shortened expires_ms are what those say. subject: whom it acts for; where that is a local user,
    the key does what both may. replaces: the key that was rotated into this one.
    """

    id: str
    digest: str
    subject: str
    tenant: str
    scopes: tuple[Scope, ...]
    roles: Mapping[str, Role]
    groups: tuple[str, ...] = ()
    expires_ms: int | None = None
    active: bool = True
    note: str = ""
    made_ms: int = 0
    made_by: str = ""
    replaces: str | None = None

    def principal(self) -> Principal:
        """Who holds the key."""
        return Principal(
            self.subject,
            self.tenant,
            frozenset(self.scopes),
            self.roles,
            frozenset(self.groups),
            expires_ms=self.expires_ms,
        )

    def alive(self, now_ms: int) -> bool:
        """True while it counts."""
        return self.active and (self.expires_ms is None or self.expires_ms > now_ms)

    def entry(self) -> AccessEntry:
        """The record that stores it."""
        body = {name: value for name, value in vars(self).items() if name not in ("id", "active")}
        return AccessEntry("key", self.id, json.dumps(body, default=list, sort_keys=True))

    @staticmethod
    def from_entry(entry: AccessEntry) -> ApiKey:
        """Back from `entry`."""
        raw = json.loads(entry.body)
        return ApiKey(**{**raw, "id": entry.id, "scopes": tuple(raw["scopes"]), "groups": tuple(raw["groups"])})


@dataclass(frozen=True)
class KnowledgeBase:
    """A knowledge base of a tenant. absent_access: who reads a document without an access list.

    policy: what is done with personal data in it. filterable: the metadata keys that searches may filter on; None:
    whatever its documents bring.
    """

    tenant: str
    name: str
    absent_access: Literal["everyone", "nobody"] = "everyone"
    policy: Policy = field(default_factory=Policy)
    filterable: tuple[str, ...] | None = None

    def entry(self) -> AccessEntry:
        """The record that stores it as somebody wants it."""
        body = {"absent_access": self.absent_access, "policy": self.policy.to_json(), "filterable": self.filterable}
        return AccessEntry("base", f"{self.tenant}/{self.name}", json.dumps(body, sort_keys=True))

    def used_entry(self) -> AccessEntry:
        """The record that says no more than that it is there: of a base made by its first document.

        It has a key of its own in the topic, so that it never overwrites what somebody wants at that very moment.
        """
        return AccessEntry("base-used", f"{self.tenant}/{self.name}", "{}")

    @staticmethod
    def from_entry(entry: AccessEntry) -> KnowledgeBase:
        """Back from either entry."""
        tenant, name = entry.id.split("/", 1)
        raw = json.loads(entry.body)
        policy, filterable = Policy.from_json(raw.get("policy", {})), raw.get("filterable")
        absent_access = raw.get("absent_access", "everyone")
        return KnowledgeBase(tenant, name, absent_access, policy, None if filterable is None else tuple(filterable))


def new_key() -> str:
    """A fresh API key: `tw_` and 256 random bits."""
    return f"tw_{secrets.token_urlsafe(32)}"


def new_key_id() -> str:
    """A fresh id of a key: never used again, so that nothing is ever written over a key's entry."""
    return f"k_{secrets.token_hex(8)}"


def digest(key: str) -> str:
    """What of a key is stored, and how it is looked up."""
    return hashlib.sha256(key.encode()).hexdigest()
