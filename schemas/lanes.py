"""The two lanes of the topic `documents`: what people wait for, and what comes in loads.

Before this: nothing. After this: whoever appends to `events` or `documents` writes the header, the index stage's two
consumer groups read it.
"""

from __future__ import annotations

from enum import StrEnum

LANE_HEADER = "thalweg.lane"
"""Header of a record of `documents`; on a record of `events` it is the publisher's word, which capture takes over."""


class Lane(StrEnum):
    """Which of the two index workers takes a change. A record without the header, or with another word, is live."""

    LIVE = "live"
    BULK = "bulk"

    @staticmethod
    def named(header: str | None) -> Lane:
        """The lane that a header's value names."""
        return Lane.BULK if header == Lane.BULK else Lane.LIVE

    @property
    def header(self) -> tuple[str, bytes]:
        """The record header that says so."""
        return (LANE_HEADER, self.value.encode())
