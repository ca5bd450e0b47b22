"""An issuer's keys: rotated without a restart, fetched at a bounded rate, kept through an outage for a bounded time."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from runtime.identity.jwks import FetchedKeys, KeysNotRead, from_file, from_url, keys_of
from runtime.identity.tokens import KeysUnavailable
from tests.unit.runtime.identity import issuer as idp
from tests.unit.runtime.identity.issuer import ELLIPTIC, RSA


class Served:
    """A key set on a server, a clock beside it, and how often it was asked."""

    def __init__(self, *kids: str) -> None:
        self.kids = list(kids)
        self.away = False
        self.asked = 0
        self.now = 1000.0
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self) -> bytes:
        self.asked += 1
        await self.gate.wait()
        if self.away:
            raise KeysNotRead("away")
        return idp.key_set(*(idp.jwk(RSA, kid) for kid in self.kids))

    def keys(self) -> FetchedKeys:
        return FetchedKeys(self.fetch, refresh_s=300, retry_s=10, stale_s=3600, clock=lambda: self.now)


async def settled() -> None:
    """What was started beside a request has run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_rotated_key_is_found_without_a_restart_and_a_withdrawn_one_is_not() -> None:
    served = Served("old")
    keys = served.keys()
    assert await keys.find("old", "RS256") is not None

    served.kids, served.now = ["new"], served.now + 11
    assert await keys.find("new", "RS256") is not None
    assert await keys.find("old", "RS256") is None


async def test_made_up_key_ids_make_one_fetch_in_a_while() -> None:
    served = Served("one")
    keys = served.keys()

    for number in range(1000):
        assert await keys.find(f"made-up-{number}", "RS256") is None
    assert served.asked == 1
    served.now += 10
    assert await keys.find("made-up", "RS256") is None
    assert served.asked == 2


async def test_requests_at_once_wait_for_one_fetch_and_one_that_hangs_up_ends_it_for_nobody() -> None:
    served = Served("one")
    served.gate.clear()
    keys = served.keys()
    waiting = [asyncio.create_task(keys.find("one", "RS256")) for _ in range(20)]
    await settled()
    waiting[0].cancel()
    await settled()
    served.gate.set()

    found = await asyncio.gather(*waiting, return_exceptions=True)

    assert isinstance(found[0], asyncio.CancelledError)
    assert all(key is not None and not isinstance(key, BaseException) for key in found[1:])
    assert served.asked == 1


async def test_an_old_set_is_fetched_again_beside_the_request_that_needs_it() -> None:
    served = Served("one")
    keys = served.keys()
    await keys.find("one", "RS256")
    served.now += 301
    served.gate.clear()

    assert await asyncio.wait_for(keys.find("one", "RS256"), 1) is not None
    await settled()
    assert served.asked == 2
    served.gate.set()
    await settled()


async def test_keys_of_before_count_while_the_issuer_is_away_but_not_for_ever() -> None:
    served = Served("one")
    keys = served.keys()
    await keys.find("one", "RS256")
    served.away = True

    served.now += 3600
    assert await keys.find("one", "RS256") is not None
    assert await keys.find("other", "RS256") is None
    served.now += 1
    with pytest.raises(KeysUnavailable):
        await keys.find("one", "RS256")
    served.away, served.now = False, served.now + 10
    assert await keys.find("one", "RS256") is not None


async def test_an_issuer_that_never_answered_is_asked_at_a_bounded_rate_too() -> None:
    served = Served("one")
    served.away = True
    keys = served.keys()

    for _ in range(50):
        with pytest.raises(KeysUnavailable):
            await keys.find("one", "RS256")
    assert served.asked == 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"keys": {}}', b'{"keys": 5}', b'{"kys": []}', b"[" * 100_000]
)
def test_what_is_no_key_set_is_told_so(body: bytes) -> None:
    with pytest.raises(KeysNotRead):
        keys_of(body)


def test_what_is_no_public_key_for_signatures_is_left_out() -> None:
    public = idp.jwk(RSA, "good")
    odd = [5, None, {}, {**public, "kid": 5}, {**public, "kid": "e", "use": "enc"}, {**public, "kid": "d", "d": "x"}]
    odd += [{"kty": "oct", "k": "eA", "kid": "s"}, {**public, "kid": "h", "alg": "HS256"}]

    assert set(keys_of(idp.key_set(*odd, public))) == {"good"}  # type: ignore[arg-type]


async def test_a_url_is_read_as_it_is_redirects_and_endless_answers_are_not() -> None:
    good = idp.key_set(idp.jwk(ELLIPTIC, "one"))

    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/keys":
                return httpx.Response(200, content=good)
            case "/moved":
                return httpx.Response(302, headers={"Location": "https://issuer.example/keys"})
            case "/endless":
                return httpx.Response(200, content=b" " * 2_000_000)
            case "/away":
                raise httpx.ConnectError("refused")
        return httpx.Response(500)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), follow_redirects=True) as client:
        assert await from_url("https://issuer.example/keys", client)() == good
        for path in ("moved", "endless", "away", "broken"):
            with pytest.raises(KeysNotRead):
                await from_url(f"https://issuer.example/{path}", client)()


async def test_a_file_is_read_anew_so_that_it_can_be_replaced(tmp_path: object) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "keys.json"
    with pytest.raises(KeysNotRead):
        await from_file(file)()
    file.write_bytes(idp.key_set(idp.jwk(RSA, "one")))
    now = 0.0
    keys = FetchedKeys(from_file(file), refresh_s=300, retry_s=10, stale_s=3600, clock=lambda: now)
    assert await keys.find("one", "RS256") is not None

    file.write_bytes(idp.key_set(idp.jwk(RSA, "two")))
    now = 10.0
    assert await keys.find("two", "RS256") is not None
