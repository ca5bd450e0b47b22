"""From a bearer token to who is asking. Before it: `tokens.py` (is it genuine?). After it: `../web/identity.py`.

Of our own tokens only the name is taken: what the user may do is looked up anew for each request, so that a blocked
user, a taken-back grant and a new password hold at once. Of an identity provider's tokens tenant, groups and roles are
read where settings say; what is granted here to these names comes on top.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from runtime.access import EVERY_BASE, Principal, Role, Scope, reader_names, strongest
from runtime.access_state import AccessState, scopes_of
from runtime.identity.tokens import Issuer, TokenRefused, unverified, verified
from schemas.access_names import MAX_NAME, access_name

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MOST_GROUPS = 1000


class Tokens(Protocol):
    """What `web/identity.py` asks."""

    async def caller(self, token: str) -> Principal:
        """Who shows this token. Raises TokenRefused, KeysUnavailable."""
        ...


@dataclass(frozen=True)
class ClaimRules:
    """Where an identity provider's tokens say what: names of claims, and what their values mean here.

    A claim's name is taken as it is, else as a path with dots (`realm_access.roles`). Where a token has the claim of
    scopes, it limits what roles give; where it has none, it does not. roles hold for all of the tenant's knowledge
    bases. mfa: values of `amr` (RFC 8176) that tell of a second factor.
    """

    tenant: str
    groups: str
    scope: str
    role: str
    scopes: Mapping[str, Scope]
    roles: Mapping[str, Role]
    mfa: frozenset[str]


@dataclass(frozen=True)
class SessionLife:
    """Seconds from login until a token of ours ends, by the strongest role that its user has anywhere."""

    admin: int
    editor: int
    viewer: int

    def of(self, caller: Principal) -> int:
        """The life of this caller's tokens."""
        match strongest(caller.roles.values()):
            case "admin":
                return self.admin
            case "editor":
                return self.editor
            case _:
                return self.viewer


class TokenCallers:
    """See Tokens. ours and theirs: issuers, None where there is none. now_s: Unix time."""

    def __init__(
        self,
        state: AccessState,
        *,
        ours: Issuer | None,
        theirs: Issuer | None,
        rules: ClaimRules,
        life: SessionLife,
        admin_needs_mfa: bool,
        now_s: Callable[[], float],
    ) -> None:
        self._state = state
        self._ours = ours
        self._theirs = theirs
        self._rules = rules
        self._life = life
        self._admin_needs_mfa = admin_needs_mfa
        self._now_s = now_s

    async def caller(self, token: str) -> Principal:
        """See Tokens."""
        _, claimed = unverified(token)
        issuer = claimed.get("iss")
        if self._ours is not None and issuer == self._ours.name:
            found = self._of_session(await verified(token, self._ours))
        elif self._theirs is not None and issuer == self._theirs.name:
            found = self._of_provider(await verified(token, self._theirs))
        else:
            raise TokenRefused("an unknown issuer")
        if self._state.blocked(found.tenant, found.subject):
            raise TokenRefused("the user is blocked")
        return found.without_admin() if self._admin_needs_mfa and not found.mfa else found

    def _of_session(self, claims: Mapping[str, Any]) -> Principal:
        tenant, name = _tenant(claims.get("tenant")), _subject(claims)
        user, password = self._state.user(tenant, name), self._state.password(tenant, name)
        if user is None or password is None or password.set_ms != claims.get("pwd"):
            raise TokenRefused("the user or its password is another one by now")
        found = self._state.person(tenant, name, user.groups)
        issued = claims.get("iat")
        # Who was given a stronger role since then has the stronger role's shorter session.
        if not isinstance(issued, int) or issued + self._life.of(found) <= self._now_s():
            raise TokenRefused("the session is over", expired=True)
        return replace(found, expires_ms=int(claims["exp"]) * 1000, mfa="mfa" in _texts(claims.get("amr")))

    def _of_provider(self, claims: Mapping[str, Any]) -> Principal:
        rules = self._rules
        tenant, subject = _tenant(_claim(claims, rules.tenant)), _subject(claims)
        groups = frozenset(name for item in _texts(_claim(claims, rules.groups)) if (name := access_name(item)))
        if len(groups) > _MOST_GROUPS:
            raise TokenRefused("too many groups")
        roles = self._state.roles(tenant, reader_names(subject, groups))
        told = strongest(rules.roles.get(item) for item in _texts(_claim(claims, rules.role)))
        everywhere = strongest((told, roles.get(EVERY_BASE)))
        if everywhere is not None:
            roles[EVERY_BASE] = everywhere
        scopes = scopes_of(roles)
        limit = _claim(claims, rules.scope)
        if limit is not None:
            named = limit.split() if isinstance(limit, str) else _texts(limit)
            given = {scope for item in named if (scope := rules.scopes.get(item)) is not None}
            # As with a key: the scope admin holds the others, for whoever is an admin.
            scopes = scopes if "admin" in given and "admin" in scopes else scopes & given
        mfa = not rules.mfa.isdisjoint(_texts(claims.get("amr")))
        expires_ms = int(claims["exp"]) * 1000
        return Principal(subject, tenant, scopes, roles, groups, via="token", expires_ms=expires_ms, mfa=mfa)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name, else at this path; None if there is none."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _tenant(value: Any) -> str:
    """Raises TokenRefused if the token names no tenant: nothing stands in for it."""
    if not isinstance(value, str) or not _TENANT.fullmatch(value):
        raise TokenRefused("no tenant")
    return value


def _subject(claims: Mapping[str, Any]) -> str:
    """The name as access lists write it. Raises TokenRefused if it is none."""
    found = access_name(claims.get("sub"))
    if found is None or len(found) > MAX_NAME or not found.isprintable():
        raise TokenRefused("a subject that is no name")
    return found


def _texts(value: Any) -> list[str]:
    """A claim that is a text or a list of texts, as a list; anything else in it is left out."""
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [item for item in values if isinstance(item, str)]
