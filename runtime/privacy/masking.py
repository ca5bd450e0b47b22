"""Puts a keyed token in place of each address and number that was found: the same value, the same token.

A token is one word (`email_` and twenty letters), so that keyword search finds it and nothing finds a number in it. It
is an HMAC: who does not have the key cannot try out all phone numbers there are. Each tenant has a key of its own, made
from the secret `privacy.mask_key`, so that tokens tell nothing across tenants. Before this: `detection.py`. After this:
the stages that write `documents`, and the query API.
"""

from __future__ import annotations

import hmac
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass

from runtime.privacy.detection import find
from runtime.privacy.policy import Kind, Policy
from schemas.records import MetadataValue

SHORTEST_KEY = 32
"""Characters of the secret: 128 bits, written as hexadecimal digits."""

_TOKEN_BYTES = 10
_LETTERS = "abcdefghijklmnop"
_SHORTEST_NUMBER = 9
"""Digits from which on a whole number in metadata may be a card or a person's number."""


@dataclass(frozen=True)
class Masked:
    """A text with tokens. moves: for each of them start and end in the old text, and how far what follows was moved."""

    text: str
    moves: tuple[tuple[int, int, int], ...] = ()

    def moved(self, offset: int) -> int:
        """Where a place in the old text is in the new one; a place within what is gone: where its token ends."""
        place = bisect_left(self.moves, offset, key=lambda move: move[0]) - 1
        if place < 0:
            return offset
        _, end, shift = self.moves[place]
        return max(offset, end) + shift


class Masker:
    """One for a tenant. Its results depend on secret, tenant, text, kinds and region alone."""

    def __init__(self, secret: str, tenant: str) -> None:
        if len(secret) < SHORTEST_KEY:
            raise ValueError(f"the key is shorter than {SHORTEST_KEY} characters")
        self._key = hmac.digest(secret.encode(), b"thalweg mask\0" + tenant.encode(), "sha256")

    def token(self, kind: Kind, value: str) -> str:
        """What stands for a value."""
        code = hmac.digest(self._key, f"{kind}\0{value}".encode("utf-8", "surrogatepass"), "sha256")[:_TOKEN_BYTES]
        return f"{kind}_" + "".join(_LETTERS[byte >> 4] + _LETTERS[byte & 15] for byte in code)

    def masked(self, text: str, kinds: Collection[Kind], region: str = "") -> Masked:
        """The text with tokens."""
        parts: list[str] = []
        moves: list[tuple[int, int, int]] = []
        at = shift = 0
        for match in find(text, kinds, region):
            token = self.token(match.kind, match.value)
            parts += [text[at : match.start], token]
            shift += len(token) - (match.end - match.start)
            moves.append((match.start, match.end, shift))
            at = match.end
        return Masked("".join([*parts, text[at:]]), tuple(moves)) if moves else Masked(text)

    def value(self, value: MetadataValue, policy: Policy) -> MetadataValue:
        """A metadata value with tokens. A whole number becomes a token if all of it is one thing to be masked."""
        match value:
            case str():
                return self.masked(value, policy.mask, policy.region).text
            case list():
                return [self.masked(item, policy.mask, policy.region).text for item in value]
            case bool():
                return value
            case int() if value >= 10 ** (_SHORTEST_NUMBER - 1):
                found = find(str(value), policy.mask, policy.region)
                whole = len(found) == 1 and found[0].end - found[0].start == len(str(value))
                return self.token(found[0].kind, found[0].value) if whole else value
            case _:
                return value
