"""Settings of personal data and of what is kept encrypted. After it: `settings.py`."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from runtime.settings_section import Section

SHORTEST_SEAL_KEY = 32
"""Characters: 128 bits, written as hexadecimal digits."""

MOST_SEAL_KEYS = 10


class Privacy(Section):
    """Personal data. What is done with it, each knowledge base's policy says (`thalweg access bases`)."""

    mask_key: SecretStr | None = Field(
        None, min_length=32, description="Secret of the tokens in place of addresses; with another one all change."
    )
    seal_keys: SecretStr | None = Field(
        None, description="Secrets that seal metadata, apart by white space: the first seals, all of them open."
    )

    @property
    def sealing(self) -> tuple[str, ...]:
        """The secrets of `seal_keys`, one by one."""
        return tuple(self.seal_keys.get_secret_value().split()) if self.seal_keys else ()

    @model_validator(mode="after")
    def _usable(self) -> Privacy:
        if self.seal_keys is None:
            return self
        keys = self.sealing
        if not 1 <= len(keys) <= MOST_SEAL_KEYS or any(len(key) < SHORTEST_SEAL_KEY for key in keys):
            raise ValueError(
                f"seal_keys: give 1 to {MOST_SEAL_KEYS} keys of {SHORTEST_SEAL_KEY} characters or more, apart by white "
                "space: `openssl rand -hex 32` makes one"
            )
        if len(set(keys)) < len(keys):
            raise ValueError("seal_keys: a key is given twice")
        return self
