"""The two lanes of the topic `documents`: what people wait for, and what comes in loads.

Before this: nothing. After this: whoever appends to `events` or `documents` writes the header, the index stage's two
consumer groups read it.
"""

from __future__ import annotations

from enum import StrEnum

from schemas.headers import Headers, last_header

LANE_HEADER = "thalweg.lane"
"""Header of a record of `documents`; on a record of `events` it is the publisher's word, which capture takes over."""


class Lane(StrEnum):
    """Which of the two index workers takes a change. A record without the header, or with another word, is live."""

    LIVE = "live"
    BULK = "bulk"

    @staticmethod
    def of(headers: Headers) -> Lane:
        """The lane of a record with these headers."""
        return Lane.BULK if last_header(headers, LANE_HEADER) == Lane.BULK else Lane.LIVE

    @property
    def header(self) -> tuple[str, bytes]:
        """The record header that says so."""
        return (LANE_HEADER, self.value.encode())
