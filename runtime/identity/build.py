"""From settings to what checks tokens and logs people in. Before it: an API's main. After it: `callers.py`."""

from __future__ import annotations

import time
from collections.abc import Mapping

import httpx

from runtime.access import ROLES, SCOPES
from runtime.access_state import AccessState
from runtime.identity.callers import ClaimRules, SessionLife, TokenCallers
from runtime.identity.failures import Failures
from runtime.identity.jwks import FetchedKeys, from_file, from_url
from runtime.identity.logins import Logins, TryLimits
from runtime.identity.passwords import Codes, Passwords
from runtime.identity.signing import ALGORITHM, Signing
from runtime.identity.tokens import ASYMMETRIC, Issuer
from runtime.settings import Settings, SettingsError
from runtime.settings_identity import OAuth


def token_callers(
    settings: Settings, state: AccessState, signing: Signing | None, client: httpx.AsyncClient
) -> TokenCallers:
    """What says whose a token is. client fetches the identity provider's keys. Raises SettingsError."""
    ours = None
    if signing is not None:
        name = settings.login.issuer
        ours = Issuer(name, name, frozenset({ALGORITHM}), signing)
    if settings.oauth.issuer == settings.login.issuer:
        raise SettingsError(
            "oauth.issuer is login.issuer: name one of them otherwise, or nobody knows whose token it is"
        )
    return TokenCallers(
        state,
        ours=ours,
        theirs=_provider(settings.oauth, client),
        rules=_rules(settings.oauth),
        life=session_life(settings),
        admin_needs_mfa=settings.login.admin_needs_mfa,
        now_s=time.time,
    )


def logins(settings: Settings, state: AccessState, signing: Signing | None) -> Logins | None:
    """What logs people in; None where there is no secret to sign with."""
    if signing is None:
        return None
    login = settings.login
    return Logins(
        state,
        signing,
        issuer=login.issuer,
        life=session_life(settings),
        passwords=Passwords(),
        failures=Failures(login.failures_window_s),
        limits=TryLimits(login.failures, login.failures_in_all),
        codes=Codes(),
        now_s=time.time,
    )


def session_life(settings: Settings) -> SessionLife:
    """How long our tokens live."""
    login = settings.login
    return SessionLife(login.session_admin_s, login.session_editor_s, login.session_viewer_s)


def _provider(oauth: OAuth, client: httpx.AsyncClient) -> Issuer | None:
    if oauth.issuer is None or oauth.audience is None:
        return None
    algorithms = frozenset(_list(oauth.algorithms))
    if not algorithms or algorithms - ASYMMETRIC:
        raise SettingsError(f"oauth.algorithms: {oauth.algorithms!r}; use some of {', '.join(sorted(ASYMMETRIC))}")
    fetch = from_file(oauth.jwks_file) if oauth.jwks_file is not None else from_url(oauth.jwks_url or "", client)
    keys = FetchedKeys(fetch, refresh_s=oauth.keys_refresh_s, retry_s=oauth.keys_retry_s, stale_s=oauth.keys_stale_s)
    return Issuer(oauth.issuer, oauth.audience, algorithms, keys, oauth.leeway_s)


def _rules(oauth: OAuth) -> ClaimRules:
    return ClaimRules(
        tenant=oauth.tenant_claim,
        groups=oauth.groups_claim,
        scope=oauth.scope_claim,
        role=oauth.role_claim,
        scopes={
            theirs: name for theirs, ours in _pairs("scopes", oauth.scopes).items() for name in SCOPES if name == ours
        },
        roles={theirs: name for theirs, ours in _pairs("roles", oauth.roles).items() for name in ROLES if name == ours},
        mfa=frozenset(_list(oauth.mfa_values)),
    )


def _pairs(name: str, text: str) -> Mapping[str, str]:
    """`theirs=ours,...`. Raises SettingsError."""
    ours = SCOPES if name == "scopes" else ROLES
    found = {}
    for item in _list(text):
        left, _, right = item.rpartition("=")
        if not left or right not in ours:
            raise SettingsError(f"oauth.{name}: {item!r} is not `theirs=ours` with one of {', '.join(ours)}")
        found[left.strip()] = right
    return found


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
