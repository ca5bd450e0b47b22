"""Users, grants, and what ends a key: the further kinds of entries of the topic `access`.

Before this: `access.py`. After this: `access_state.py` folds them, `access_changes.py` writes them.

Two replicas may write at once, and the topic is compacted: of each Kafka key the last record stays, whoever wrote it
from whatever it remembered. So no entry is ever made from what was read: each is said whole by one request, and what
must not be undone by somebody's late write is an entry of its own that nobody else's request writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from runtime.access import Role
from schemas.records import AccessEntry


@dataclass(frozen=True)
class User:
    """A person of this deployment. name is unique in its tenant, among the names that access lists may hold."""

    tenant: str
    name: str
    groups: tuple[str, ...] = ()

    def entry(self) -> AccessEntry:
        """The record that stores it."""
        return AccessEntry("user", f"{self.tenant}/{self.name}", json.dumps({"groups": self.groups}))

    @staticmethod
    def from_entry(entry: AccessEntry) -> User:
        """Back from `entry`."""
        tenant, name = entry.id.split("/", 1)
        return User(tenant, name, tuple(json.loads(entry.body)["groups"]))


@dataclass(frozen=True)
class Password:
    """A user's password, hashed with argon2id. set_ms names it: tokens of an earlier one end."""

    tenant: str
    name: str
    hash: str
    set_ms: int

    def entry(self) -> AccessEntry:
        """The record that stores it."""
        body = json.dumps({"hash": self.hash, "set_ms": self.set_ms})
        return AccessEntry("password", f"{self.tenant}/{self.name}", body)

    @staticmethod
    def from_entry(entry: AccessEntry) -> Password:
        """Back from `entry`."""
        tenant, name = entry.id.split("/", 1)
        raw = json.loads(entry.body)
        return Password(tenant, name, raw["hash"], raw["set_ms"])


@dataclass(frozen=True)
class SecondFactor:
    """The secret of a user's TOTP app, encrypted by the deployment's own key (`identity/signing.py`)."""

    tenant: str
    name: str
    sealed: str

    def entry(self) -> AccessEntry:
        """The record that stores it."""
        return AccessEntry("second-factor", f"{self.tenant}/{self.name}", json.dumps({"sealed": self.sealed}))

    @staticmethod
    def from_entry(entry: AccessEntry) -> SecondFactor:
        """Back from `entry`."""
        tenant, name = entry.id.split("/", 1)
        return SecondFactor(tenant, name, json.loads(entry.body)["sealed"])


@dataclass(frozen=True)
class UserBlocked:
    """The user may not log in, and tokens and keys that act for it end. Taken back by deleting the entry."""

    tenant: str
    name: str

    def entry(self) -> AccessEntry:
        """The record that stores it."""
        return AccessEntry("user-blocked", f"{self.tenant}/{self.name}", "{}")

    @staticmethod
    def from_entry(entry: AccessEntry) -> UserBlocked:
        """Back from `entry`."""
        tenant, name = entry.id.split("/", 1)
        return UserBlocked(tenant, name)


@dataclass(frozen=True)
class Grant:
    """A role of a user or a group (who) in a knowledge base, `*` in all. One entry each: grants never collide."""

    tenant: str
    base: str
    who: str
    role: Role

    def entry(self) -> AccessEntry:
        """The record that stores it."""
        return AccessEntry("grant", f"{self.tenant}/{self.base}/{self.who}", json.dumps({"role": self.role}))

    @staticmethod
    def from_entry(entry: AccessEntry) -> Grant:
        """Back from `entry`."""
        tenant, base, who = entry.id.split("/", 2)
        return Grant(tenant, base, who, json.loads(entry.body)["role"])


@dataclass(frozen=True)
class KeyRevoked:
    """The key counts no more, for ever: nothing writes another entry under this name, and nothing takes it back."""

    key_id: str

    def entry(self) -> AccessEntry:
        """The record that stores it."""
        return AccessEntry("key-revoked", self.key_id, "{}")

    @staticmethod
    def from_entry(entry: AccessEntry) -> KeyRevoked:
        """Back from `entry`."""
        return KeyRevoked(entry.id)


@dataclass(frozen=True)
class KeyEnd:
    """The key was rotated and counts until then. It only ever shortens a key's life."""

    key_id: str
    at_ms: int

    def entry(self) -> AccessEntry:
        """The record that stores it."""
        return AccessEntry("key-end", self.key_id, json.dumps({"at_ms": self.at_ms}))

    @staticmethod
    def from_entry(entry: AccessEntry) -> KeyEnd:
        """Back from `entry`."""
        return KeyEnd(entry.id, int(json.loads(entry.body)["at_ms"]))


def taken_back(entry: AccessEntry) -> AccessEntry:
    """The record that ends an entry."""
    return replace(entry, body="{}", deleted=True)
