"""Who is asking, and what may they do: principals, scopes, API keys. The entries live in the topic `access`.

Before this: `schemas/records.py` (AccessEntry). After this: `runtime/directory.py` reads the topic into memory, for
both APIs; `thalweg access` writes it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from runtime.privacy.policy import Policy
from schemas.records import AccessEntry

Scope = Literal["ingest", "query", "admin"]
Role = Literal["viewer", "editor", "admin"]
SCOPES: tuple[Scope, ...] = ("ingest", "query", "admin")


@dataclass(frozen=True)
class Principal:
    """A caller whose key was verified: the tenant comes from here and from nowhere else.

    groups are the names a document's access list may hold: the subject itself, and its groups. roles map a knowledge
    base to a role; `*` is every one.
    """

    subject: str
    tenant: str
    scopes: frozenset[Scope]
    roles: Mapping[str, Role]
    groups: frozenset[str] = frozenset()

    @property
    def admin(self) -> bool:
        """May do everything within the tenant."""
        return "admin" in self.scopes

    def may(self, scope: Scope) -> bool:
        """True if the key carries the scope."""
        return self.admin or scope in self.scopes

    def role_in(self, knowledge_base: str) -> Role | None:
        """The caller's role in a knowledge base, None if none."""
        return "admin" if self.admin else self.roles.get(knowledge_base) or self.roles.get("*")

    @property
    def readers(self) -> frozenset[str]:
        """The names under which a document's access list admits this caller."""
        return self.groups | {self.subject}


@dataclass(frozen=True)
class ApiKey:
    """A key as it is stored: never the key itself, only its SHA-256 (a key is 256 random bits: no salt is needed)."""

    id: str
    digest: str
    subject: str
    tenant: str
    scopes: tuple[Scope, ...]
    roles: Mapping[str, Role]
    groups: tuple[str, ...] = ()
    expires_ms: int | None = None
    active: bool = True

    def principal(self) -> Principal:
        """Who holds the key."""
        return Principal(self.subject, self.tenant, frozenset(self.scopes), self.roles, frozenset(self.groups))

    def entry(self) -> AccessEntry:
        """The record that stores it."""
        body = {name: value for name, value in vars(self).items() if name != "id"}
        return AccessEntry("key", self.id, json.dumps(body, default=list, sort_keys=True))

    @staticmethod
    def from_entry(entry: AccessEntry) -> ApiKey:
        """Back from `entry`."""
        raw = json.loads(entry.body)
        return ApiKey(**{**raw, "id": entry.id, "scopes": tuple(raw["scopes"]), "groups": tuple(raw["groups"])})


@dataclass(frozen=True)
class KnowledgeBase:
    """A knowledge base of a tenant. absent_access: who reads a document without an access list.

    policy: what is done with personal data in it.
    """

    tenant: str
    name: str
    absent_access: Literal["everyone", "nobody"] = "everyone"
    policy: Policy = field(default_factory=Policy)

    def entry(self) -> AccessEntry:
        """The record that stores it."""
        body = {"absent_access": self.absent_access, "policy": self.policy.to_json()}
        return AccessEntry("base", f"{self.tenant}/{self.name}", json.dumps(body, sort_keys=True))

    @staticmethod
    def from_entry(entry: AccessEntry) -> KnowledgeBase:
        """Back from `entry`."""
        tenant, name = entry.id.split("/", 1)
        raw = json.loads(entry.body)
        policy = Policy.from_json(raw.get("policy", {}))
        return KnowledgeBase(tenant, name, raw.get("absent_access", "everyone"), policy)


def new_key() -> str:
    """A fresh API key: `tw_` and 256 random bits."""
    return f"tw_{secrets.token_urlsafe(32)}"


def digest(key: str) -> str:
    """What of a key is stored, and how it is looked up."""
    return hashlib.sha256(key.encode()).hexdigest()
