"""Settings of the answers that are given again. After it: `settings.py`."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from runtime.settings_section import Section as _Section


class AnswerCache(_Section):
    """Answers that are given again to the same question from the same hits. With replicas, in Redis or Valkey."""

    url: SecretStr | None = Field(
        None, description="`redis://[user:password@]host:6379/0`, `rediss://` with TLS. None: in this process's memory."
    )
    secret: SecretStr | None = Field(
        None, description="Seals what is kept at `url`, the same for all replicas: `openssl rand -hex 32`."
    )
    timeout_s: float = Field(0.25, gt=0, description="Longest wait for the store; then the model is asked.")
    seconds: int = Field(
        3600, ge=1, description="How long an answer is given again: a model's name may get new weights."
    )
    most_bytes: int = Field(67_108_864, ge=0, description="Of all answers in memory (64 MiB); 0: none is kept.")
    most_entries: int = Field(10_000, ge=0, description="Answers in memory.")

    @model_validator(mode="after")
    def _sealed(self) -> AnswerCache:
        if self.url is not None and len(self.secret.get_secret_value() if self.secret else "") < 32:
            raise ValueError("answer_cache.url needs answer_cache.secret, of 32 characters or more")
        return self
