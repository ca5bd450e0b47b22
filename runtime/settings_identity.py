"""Settings of who is asking: an identity provider's tokens, and people who log in here. After it: `settings.py`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from runtime.settings_section import Section as _Section


class OAuth(_Section):
    """Tokens of an identity provider (OAuth2, JWT), beside our own keys. Without an issuer there are none.

    A claim is named as it is, or by a path with dots (`realm_access.roles`). Lists are texts with commas.
    """

    issuer: str | None = Field(None, description="The token's `iss`, exactly.")
    audience: str | None = Field(None, description="What the token's `aud` must name: this deployment.")
    jwks_url: str | None = Field(None, description="Where the issuer's public keys are.")
    jwks_file: Path | None = Field(None, description="Or a file that holds them (a JSON Web Key Set).")
    algorithms: str = Field("RS256,ES256,EdDSA", description="Asymmetric ones only: no shared secret is accepted.")
    leeway_s: float = Field(60, ge=0, le=300, description="How far clocks may be apart.")
    keys_refresh_s: float = Field(300, gt=0, description="Age at which the keys are fetched again.")
    keys_retry_s: float = Field(10, gt=0, description="Least time between two fetches, whatever tokens come.")
    keys_stale_s: float = Field(86_400, gt=0, description="How long keys count while the issuer is away.")
    tenant_claim: str = Field("tenant", description="Whose data; a token without it is refused.")
    groups_claim: str = "groups"
    scope_claim: str = Field("scope", description="Limits what roles give; a token without it is not limited.")
    scopes: str = Field(
        "documents:write=ingest,search:read=query,admin:replay=admin", description="Theirs=ours: ingest, query, admin."
    )
    role_claim: str = "roles"
    roles: str = Field(
        "thalweg-admin=admin,thalweg-editor=editor,thalweg-viewer=viewer",
        description="Theirs=ours, in every knowledge base of the tenant.",
    )
    mfa_values: str = Field("mfa,otp,hwk,swk,fpt,face,sc", description="Values of `amr` that tell of a second factor.")

    @model_validator(mode="after")
    def _whole(self) -> OAuth:
        if self.issuer is not None:
            if not self.audience:
                raise ValueError("audience is missing: without it tokens meant for others would count here")
            if (self.jwks_url is None) == (self.jwks_file is None):
                raise ValueError("give one of jwks_url and jwks_file")
        return self


class Login(_Section):
    """People who log in here with a password (`thalweg access users`), and their tokens."""

    secret: SecretStr | None = Field(
        None, description="Signs tokens: 32 random characters or more. None: made under <home>/keys."
    )
    issuer: str = Field("thalweg", description="`iss` and `aud` of our tokens: one name for each deployment.")
    session_admin_s: int = Field(3600, gt=0, description="Until an admin has to log in again.")
    session_editor_s: int = Field(28_800, gt=0, description="Likewise an editor.")
    session_viewer_s: int = Field(86_400, gt=0, description="Likewise a viewer.")
    admin_needs_mfa: bool = Field(False, description="A token makes an admin only after a second factor.")
    failures: int = Field(5, ge=1, description="Wrong passwords of one user from one address, then 429.")
    failures_in_all: int = Field(50, ge=1, description="Likewise of one user, or from one address.")
    failures_window_s: float = Field(300, gt=0, description="In so many seconds.")
