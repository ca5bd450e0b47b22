"""The codec of a simulated world: the real one, most of the time from memory.

Before this: the stages encode and decode. After this: `world.py`.
"""

from __future__ import annotations

from typing import Any

from schemas.codec import Codec
from tests.support.lookup import LocalLookup


class RememberingCodec(Codec):
    """The codec, which keeps what it is given under a name, unless thorough: that took a third of a history's time.

    That records become bytes and back unchanged is shown by the codec's own tests, and by one history in eight.
    """

    def __init__(self, *, thorough: bool) -> None:
        super().__init__(LocalLookup())
        self.known: dict[bytes, Any] = {}
        self._thorough = thorough

    def encode(self, topic: str, record: Any) -> bytes:
        """As Codec.encode."""
        value = super().encode(topic, record) if self._thorough else b"\x00%08d" % len(self.known)
        self.known[value] = record
        return value

    def decode(self, value: bytes, kind: type[Any]) -> Any:
        """As Codec.decode."""
        found = None if self._thorough else self.known.get(value)
        return found if isinstance(found, kind) else super().decode(value, kind)

    def decode_any(self, value: bytes) -> dict[str, Any]:
        """As Codec.decode_any; what the simulated connector wrote is known."""
        found = self.known.get(value)
        return found if isinstance(found, dict) else super().decode_any(value)

    def foreign(self, body: dict[str, Any]) -> bytes:
        """Bytes that stand for a record of the connector."""
        value = b"\x00conn" + repr(sorted(body.items(), key=lambda item: item[0])).encode()
        self.known[value] = body
        return value
