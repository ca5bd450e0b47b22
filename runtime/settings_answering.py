"""Settings of what writes answers, and of what models cost. After it: `settings.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from runtime.settings_section import Section as _Section


class Answer(_Section):
    """The model that writes answers. extractive: no model, the best sentences are quoted, and the answer says so."""

    provider: Literal["extractive", "cohere", "openai"] = "extractive"
    url: str | None = None
    model: str | None = None
    api_key: SecretStr | None = None
    model_simple: str | None = Field(
        None, description="A smaller model for questions after one fact (query_api/README.md); None: the same."
    )
    prompt: Path | None = Field(None, description="A text file that says how to answer; None: the packaged one.")
    context_tokens: int = Field(
        6000, ge=100, description="Most tokens of passages, estimated: fits a model with 8,192 beside rules and answer."
    )
    temperature: float = Field(0.3, ge=0, le=2, description="Low: what documents say is not to be varied.")
    max_tokens: int = Field(1000, ge=1, description="Longest answer: about 700 words.")
    stall_s: float = Field(30, gt=0, description="Longest wait for the next piece of an answer that streams.")
    timeout_s: float = Field(60, gt=0, description="Longest wait for a whole answer, tries and streaming included.")
    trusted: bool = Field(False, description="It runs on machines of yours: restricted documents may be sent to it.")


class Price(_Section):
    """What a model costs, in US dollars for a million tokens."""

    input: float = Field(0, ge=0)
    output: float = Field(0, ge=0)


def _from_json(value: object) -> object:
    """A table may come as JSON, from the environment."""
    return json.loads(value) if isinstance(value, str) else value


class Prices(_Section):
    """What models cost: for `cost` in answers and the metric cost_dollars_total. Without a price no cost is told."""

    models: Annotated[dict[str, Price], BeforeValidator(_from_json)] = Field(
        {
            "command-a-03-2025": Price(input=2.5, output=10),
            "gpt-4o-mini": Price(input=0.15, output=0.6),
        },
        description='By name: `{"m": {"input": 2.5, "output": 10}}`, dollars for a million tokens. The default: list '
        "prices of the models asked by default, as of 2025; what you pay may differ.",
    )
