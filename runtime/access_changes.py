"""Every change of who may do what, and whether whoever asks may change it. After it: the topic `access`.

Before it: `thalweg access` and the query API's routes. A change is written whole from what was asked, never from what
was read, and it returns once this process has read it back (`directory.put`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from runtime.access import (
    EVERY_BASE,
    ROLES,
    SCOPES,
    ApiKey,
    KnowledgeBase,
    Principal,
    Role,
    Scope,
    both_roles,
    digest,
    new_key,
    new_key_id,
    role_in,
    strongest,
)
from runtime.access_entries import Grant, KeyEnd, KeyRevoked, Password, SecondFactor, User, UserBlocked, taken_back
from runtime.access_state import AccessState
from schemas.access_names import MAX_NAME, access_name
from schemas.records import AccessEntry

DAY_MS = 86_400_000
LONGEST_OVERLAP_S = 30 * 86_400
BASE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
_BASE = re.compile(BASE_NAME)
_MOST_NAMES = 1000

Refusal = Literal[
    "forbidden",
    "mfa-required",
    "conflict",
    "validation-failed",
    "key-not-found",
    "knowledge-base-not-found",
    "not-found",
]


class ChangeRefused(Exception):
    """Nothing was changed. kind is a kind of problem; field and fix are set where a field is wrong."""

    def __init__(self, kind: Refusal, text: str, *, field: str = "", fix: str = "") -> None:
        super().__init__(text)
        self.kind: Refusal = kind
        self.field = field
        self.fix = fix


class AccessLog(Protocol):
    """The directory."""

    @property
    def state(self) -> AccessState:
        """What all entries so far amount to."""
        ...

    def put(self, *entries: AccessEntry) -> None:
        """Write entries; they are in `state` then. Raises DeliveryFailed, NotReadBack and the registry's errors."""
        ...


@dataclass(frozen=True)
class KeyWanted:
    """A key to make. subject None: the maker's own. roles None: what the scopes need, as far as the maker has it.

    life_s None: without end for an admin's key, the longest allowed for another's.
    """

    scopes: tuple[Scope, ...]
    subject: str | None = None
    roles: Mapping[str, Role] | None = None
    groups: tuple[str, ...] = ()
    life_s: int | None = None
    note: str = ""


@dataclass(frozen=True)
class MadeKey:
    """A key at the only moment at which itself is known."""

    key: ApiKey
    secret: str


class AccessChanges:
    """by: who asks; None is the operator at the command line, who may do everything in the tenant."""

    def __init__(self, log: AccessLog, now_ms: Callable[[], int], *, longest_key_days: int) -> None:
        self._log = log
        self._now_ms = now_ms
        self._longest_ms = longest_key_days * DAY_MS

    @property
    def state(self) -> AccessState:
        """What is known."""
        return self._log.state

    def make_key(self, by: Principal | None, tenant: str, wanted: KeyWanted) -> MadeKey:
        """Make a key that does no more than its maker may. Raises ChangeRefused and what `put` raises."""
        return self._made(self._key(by, tenant, wanted))

    def rotate_key(self, by: Principal | None, tenant: str, key_id: str, *, overlap_s: int) -> MadeKey:
        """A new key in the place of this one, which counts for overlap_s more. Raises as make_key does.

        If another process revoked the key before its successor was in the topic, the successor is revoked too and
        handed to nobody: what was revoked does not come back under another name.
        """
        old, now = self._managed(by, tenant, key_id), self._now_ms()
        if not old.alive(now):
            raise ChangeRefused("conflict", f"The key {key_id} is revoked or expired: make a new one.")
        if any(key.replaces == key_id for key in self.state.keys(tenant) if key.active):
            raise ChangeRefused("conflict", f"The key {key_id} was rotated already.")
        life_s = None if old.expires_ms is None else (old.expires_ms - old.made_ms) // 1000
        wanted = KeyWanted(old.scopes, old.subject, old.roles, old.groups, life_s, old.note)
        new = replace(self._key(by, tenant, wanted), replaces=key_id)
        made = self._made(new, KeyEnd(key_id, now + overlap_s * 1000).entry())
        known = self.state.key(key_id)
        if known is None or not known.active:
            self._log.put(KeyRevoked(made.key.id).entry())
            raise ChangeRefused("conflict", f"The key {key_id} was revoked just now: make a new one.")
        return made

    def revoke_key(self, by: Principal | None, tenant: str, key_id: str) -> list[ApiKey]:
        """End a key for ever; twice is once. Returns the keys that took its place and are alive. Raises as make_key."""
        if self._managed(by, tenant, key_id).active:
            self._log.put(KeyRevoked(key_id).entry())
        now = self._now_ms()
        return [key for key in self.state.keys(tenant) if key.replaces == key_id and key.alive(now)]

    def keys(self, by: Principal | None, tenant: str) -> list[ApiKey]:
        """The keys that whoever asks may see: an admin all of the tenant, another its own."""
        return [key for key in self.state.keys(tenant) if by is None or by.admin or key.subject == by.subject]

    def make_base(self, by: Principal | None, base: KnowledgeBase) -> KnowledgeBase:
        """Make a knowledge base. Raises ChangeRefused (conflict if it is there) and what `put` raises."""
        if by is not None and not by.admin:
            raise _beyond(by, "Only an admin makes knowledge bases.")
        if not _BASE.fullmatch(base.name):
            raise ChangeRefused(
                "validation-failed", "is not 1-100 letters, digits, _ . -", field="name", fix="correct the name"
            )
        if self.state.base(base.tenant, base.name) is not None:
            raise ChangeRefused("conflict", f"There is a knowledge base {base.name!r}: change it, or use another name.")
        return self._said(base)

    def change_base(self, by: Principal | None, base: KnowledgeBase) -> KnowledgeBase:
        """Say anew what a knowledge base is like. Raises as make_base, and 404 if whoever asks knows none."""
        self.administered(by, base.tenant, base.name)
        return self._said(base)

    def grant(self, by: Principal | None, grant: Grant) -> None:
        """Give a role in a knowledge base (`*`: in all, which takes an admin of the tenant). Raises as change_base."""
        self.administered(by, grant.tenant, grant.base)
        self._log.put(replace(grant, who=checked_name(grant.who, "who")).entry())

    def withdraw(self, by: Principal | None, tenant: str, base: str, who: str) -> None:
        """Take a role back; one that is not there is no error. Raises as change_base."""
        self.administered(by, tenant, base)
        self._log.put(taken_back(Grant(tenant, base, checked_name(who, "who"), "viewer").entry()))

    def administered(self, by: Principal | None, tenant: str, base: str) -> None:
        """Return if whoever asks is admin of the knowledge base. Raises ChangeRefused."""
        role = "admin" if by is None else by.role_in(base)
        everywhere = base == EVERY_BASE
        if role is None or not (everywhere or self.state.base(tenant, base)):
            raise ChangeRefused("knowledge-base-not-found", f"No knowledge base {base!r} that you may see.")
        if role != "admin" or (everywhere and by is not None and not by.admin):
            raise _beyond(by, f"It takes the role admin in {base!r}.")

    def put_user(self, tenant: str, name: str, groups: Sequence[str]) -> User:
        """Make a user, or say anew which groups it is in."""
        names = tuple(sorted({checked_name(group, "groups") for group in groups}))
        user = User(tenant, checked_name(name, "name"), names)
        self._log.put(user.entry())
        return user

    def set_password(self, tenant: str, name: str, hashed: str) -> None:
        """Give a user a password; its tokens so far end. Raises ChangeRefused 404."""
        self._user(tenant, name)
        before = self.state.password(tenant, name)
        set_ms = max(self._now_ms(), 0 if before is None else before.set_ms + 1)
        self._log.put(Password(tenant, name, hashed, set_ms).entry())

    def set_second_factor(self, tenant: str, name: str, sealed: str | None) -> None:
        """Give a user a second factor, or with None take it away. Raises ChangeRefused 404."""
        self._user(tenant, name)
        entry = SecondFactor(tenant, name, sealed or "").entry()
        self._log.put(entry if sealed is not None else taken_back(entry))

    def block_user(self, tenant: str, name: str, *, blocked: bool) -> None:
        """Let nobody of this name in any more, or let it in again; also one whom only the identity provider knows."""
        entry = UserBlocked(tenant, checked_name(name, "name")).entry()
        self._log.put(entry if blocked else taken_back(entry))

    def _user(self, tenant: str, name: str) -> User:
        found = self.state.user(tenant, name)
        if found is None:
            raise ChangeRefused("not-found", f"There is no user {name!r}: `thalweg access users put` makes one.")
        return found

    def _said(self, base: KnowledgeBase) -> KnowledgeBase:
        self._log.put(base.entry())
        if self.state.made_base(base.tenant, base.name) != base:
            raise ChangeRefused(
                "conflict", f"Somebody else changed {base.name!r} at this moment: look, then try again."
            )
        return base

    def _managed(self, by: Principal | None, tenant: str, key_id: str) -> ApiKey:
        """The key, if whoever asks may end it: an admin any of the tenant, a person its own. Raises ChangeRefused."""
        found = self.state.key(key_id)
        mine = found is not None and (by is None or by.admin or found.subject == by.subject)
        if found is None or found.tenant != tenant or not mine:
            raise ChangeRefused("key-not-found", f"There is no key {key_id!r} that you may see.")
        _person(by)
        return found

    def _key(self, by: Principal | None, tenant: str, wanted: KeyWanted) -> ApiKey:
        """The key as it will be stored, without its digest. Raises ChangeRefused if its maker may do less than it."""
        _person(by)
        if not wanted.scopes or set(wanted.scopes) - set(SCOPES):
            raise ChangeRefused("validation-failed", "names none or an unknown one", field="scopes", fix=_use(SCOPES))
        subject = checked_name(wanted.subject if by is None else wanted.subject or by.subject, "subject")
        groups = tuple(sorted({checked_name(group, "groups") for group in wanted.groups}))
        if len(groups) > _MOST_NAMES:
            raise ChangeRefused("validation-failed", "are too many", field="groups", fix=f"name at most {_MOST_NAMES}")
        if by is not None and not by.admin:
            beyond: list[str] = [scope for scope in wanted.scopes if not by.may(scope)]
            beyond += [group for group in groups if group not in by.groups]
            beyond += [subject] if subject != by.subject else []
            if beyond:
                raise _beyond(by, f"You cannot give what you do not have: {', '.join(beyond)}.")
        if self.state.blocked(tenant, subject):
            raise ChangeRefused("conflict", f"{subject!r} is blocked.")
        now = self._now_ms()
        return ApiKey(
            id=new_key_id(),
            digest="",
            subject=subject,
            tenant=tenant,
            scopes=tuple(scope for scope in SCOPES if scope in wanted.scopes),
            roles=_roles(by, wanted),
            groups=groups,
            expires_ms=self._end(by, wanted.life_s, now),
            note=wanted.note,
            made_ms=now,
            made_by="" if by is None else by.subject,
        )

    def _end(self, by: Principal | None, life_s: int | None, now: int) -> int | None:
        """When the key ends: never after a key that made it, nor, unless its maker is an admin, after the longest."""
        free = by is None or by.admin
        ends = [] if life_s is None else [now + life_s * 1000]
        ends += [] if free else [now + self._longest_ms]
        if by is not None and by.via == "key" and by.expires_ms is not None:
            ends.append(by.expires_ms)
        return min(ends, default=None)

    def _made(self, key: ApiKey, *more: AccessEntry) -> MadeKey:
        secret = new_key()
        key = replace(key, digest=digest(secret))
        self._log.put(key.entry(), *more)
        return MadeKey(key, secret)


def checked_name(value: str | None, field: str) -> str:
    """The name of a user or group. Raises ChangeRefused."""
    name = access_name(value)
    if name is None or len(name) > MAX_NAME or "," in name or not name.isprintable():
        raise ChangeRefused(
            "validation-failed",
            f"{field} is no name",
            field=field,
            fix=f"give 1 to {MAX_NAME} characters without commas and control characters",
        )
    return name


def _beyond(by: Principal | None, text: str) -> ChangeRefused:
    """The refusal of one who may do less than this; or who could, with a second factor."""
    if by is not None and by.mfa_missing:
        return ChangeRefused("mfa-required", f"{text} Log in with a second factor, which admins need.")
    return ChangeRefused("forbidden", text)


def _person(by: Principal | None) -> None:
    """Raises ChangeRefused for a key that is no admin's: one that leaked must not be able to make others."""
    if by is not None and by.via == "key" and not by.admin:
        raise ChangeRefused("forbidden", "Keys are managed by people who log in, and by an admin's key.")


def _roles(by: Principal | None, wanted: KeyWanted) -> dict[str, Role]:
    """Raises ChangeRefused for a role that its maker does not have."""
    held: Mapping[str, Role] = {EVERY_BASE: "admin"} if by is None or by.admin else by.roles
    if wanted.roles is None:
        return both_roles({EVERY_BASE: "editor" if "ingest" in wanted.scopes else "viewer"}, held)
    for base, role in wanted.roles.items():
        if role not in ROLES or not (base == EVERY_BASE or _BASE.fullmatch(base)):
            fix = f"give knowledge base: role, one of {', '.join(ROLES)}"
            raise ChangeRefused("validation-failed", f"roles: {base!r} is not valid", field="roles", fix=fix)
        if strongest((role, role_in(held, base))) != role_in(held, base):
            raise _beyond(by, "You cannot give a role that you do not have.")
    return dict(wanted.roles)


def _use(names: Sequence[str]) -> str:
    return f"use some of {', '.join(names)}"
