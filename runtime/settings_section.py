"""What every group of settings is: fixed once read, unknown names refused. After it: `settings.py` and its parts."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of settings: `THALWEG_<SECTION>__<NAME>`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
