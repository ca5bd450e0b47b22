"""Which tokens are genuine (RFC 8725): each forgery that is known is refused, and nothing is fetched for it."""

from __future__ import annotations

import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.identity.jwks import FetchedKeys
from runtime.identity.tokens import Issuer, TokenRefused, unverified, verified
from tests.unit.runtime.identity import issuer as idp
from tests.unit.runtime.identity.issuer import AUDIENCE, EDWARDS, ELLIPTIC, ISSUER, RSA, SHORT_RSA

STRANGER = idp.rsa.generate_private_key(65537, 2048)


class Server:
    """Serves the issuer's keys, and counts how often."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = keys or (idp.jwk(RSA, "one"), idp.jwk(ELLIPTIC, "two", alg="ES256"), idp.jwk(EDWARDS, "three"))
        self.asked = 0

    async def __call__(self) -> bytes:
        self.asked += 1
        return idp.key_set(*self.keys)


def issuer_with(server: Server, algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")) -> Issuer:
    keys = FetchedKeys(server, refresh_s=300, retry_s=10, stale_s=3600)
    return Issuer(ISSUER, AUDIENCE, frozenset(algorithms), keys)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "one"), (ELLIPTIC, "ES256", "two"), (EDWARDS, "EdDSA", "three")]
)
async def test_a_genuine_token_is_believed(key: Any, algorithm: str, kid: str) -> None:
    told = await verified(idp.token(key=key, algorithm=algorithm, kid=kid), issuer_with(Server()))

    assert (told["sub"], told["tenant"]) == ("ann", "acme")


def hs256_with_the_public_key() -> str:
    """CVE-2022-29217 and its like: the public key taken for a shared secret."""
    header, payload = json.dumps({"alg": "HS256", "kid": "one"}), json.dumps(idp.claims())
    signing = f"{idp._encoded(header.encode())}.{idp._encoded(payload.encode())}"
    return f"{signing}.{idp._encoded(hmac.digest(idp.pem(RSA), signing.encode(), 'sha256'))}"


def none_of_an_algorithm(name: str) -> str:
    header = json.dumps({"alg": name, "kid": "one"})
    return f"{idp._encoded(header.encode())}.{idp._encoded(json.dumps(idp.claims()).encode())}."


def twice(name: str, value: str) -> str:
    """A claim twice: the first is what another reader may believe."""
    good = json.dumps(idp.claims())
    return idp.raw_token('{"alg": "RS256", "kid": "one"}', f'{{"{name}": {value}, {good[1:]}')


def forgeries() -> dict[str, str]:
    """Made anew for each test: their times are of now."""
    now = int(time.time())
    return {
        "alg none": none_of_an_algorithm("none"),
        "alg None": none_of_an_algorithm("None"),
        "no alg": idp.raw_token('{"kid": "one"}', json.dumps(idp.claims())),
        "alg a list": idp.raw_token('{"alg": ["RS256"], "kid": "one"}', json.dumps(idp.claims())),
        "HS256 with the public key": hs256_with_the_public_key(),
        "another's key": idp.token(key=STRANGER),
        "another's key under a kid of ours, of another kind": idp.token(key=STRANGER, kid="two"),
        "an algorithm that the key is not for": idp.token(key=ELLIPTIC, algorithm="ES256", kid="one"),
        "an algorithm that is not pinned": idp.token(algorithm="RS512"),
        "no kid": idp.token(kid=None),
        "an unknown kid": idp.token(kid="nine"),
        "a kid that is a path": idp.token(kid="../../dev/null"),
        "embedded jwk": idp.token(key=STRANGER, kid="nine", header={"jwk": idp.jwk(STRANGER, "nine")}),
        "jku": idp.token(key=STRANGER, kid="nine", header={"jku": "https://evil.example/keys"}),
        "x5u": idp.token(key=STRANGER, kid="nine", header={"x5u": "https://evil.example/cert"}),
        "crit": idp.token(header={"crit": ["exp"]}),
        "another issuer": idp.token(iss="https://evil.example"),
        "an issuer with a slash": idp.token(iss=f"{ISSUER}/"),
        "no issuer": idp.token(iss=None),
        "another audience": idp.token(aud="somebody-else"),
        "no audience": idp.token(aud=None),
        "an audience that begins like ours": idp.token(aud=f"{AUDIENCE}-2"),
        "expired": idp.token(exp=now - 120),
        "no expiry": idp.token(exp=None),
        "an expiry that is no number": idp.raw_token(
            '{"alg": "RS256", "kid": "one"}', json.dumps({**idp.claims(), "exp": "never"})
        ),
        "an expiry beyond numbers": idp.raw_token(
            '{"alg": "RS256", "kid": "one"}', json.dumps(idp.claims()).replace('"exp": ', '"exp": 1e400, "x": ')
        ),
        "not yet": idp.token(nbf=now + 120),
        "issued in the future": idp.token(iat=now + 120),
        "no subject": idp.token(sub=None),
        "a subject that is a number": idp.raw_token(
            '{"alg": "RS256", "kid": "one"}', json.dumps({**idp.claims(), "sub": 5})
        ),
        "the subject twice": twice("sub", '"root"'),
        "the tenant twice": twice("tenant", '"other"'),
        "a name twice deep inside": twice("realm", '{"roles": 1, "roles": 2}'),
        "alg twice": idp.raw_token('{"alg": "none", "alg": "RS256", "kid": "one"}', json.dumps(idp.claims())),
        "64 KiB": idp.token(pad="x" * 65_536),
        "changed after it was signed": ".".join(
            [idp.token().split(".")[0], idp.token(sub="root").split(".")[1], idp.token().split(".")[2]]
        ),
        "no signature": ".".join([*idp.token().split(".")[:2], ""]),
        "no base64": "!!.!!.!!",
        "not of three parts": "a.b",
        "claims that are a list": idp.raw_token('{"alg": "RS256", "kid": "one"}', "[]"),
        "a thousand brackets": idp.raw_token('{"alg": "RS256", "kid": "one"}', "[" * 3000),
        "nothing": "..",
    }


@pytest.mark.parametrize("name", forgeries())
async def test_a_forgery_is_refused(name: str) -> None:
    server, forged = Server(), forgeries()[name]

    with pytest.raises(TokenRefused) as caught:
        await verified(forged, issuer_with(server))

    assert server.asked <= 1
    assert caught.value.expired is (name == "expired")


async def test_clocks_may_be_a_minute_apart_and_no_more() -> None:
    now = int(time.time())
    for more in ({"exp": now - 50}, {"nbf": now + 50}, {"iat": now + 50}):
        assert (await verified(idp.token(**more), issuer_with(Server())))["sub"] == "ann"


async def test_a_shared_secret_or_a_short_key_in_the_set_checks_nothing() -> None:
    """Whoever writes the issuer's key set cannot make it accept what anybody can sign."""
    secret = {"kty": "oct", "k": idp._encoded(b"x" * 32), "kid": "one", "alg": "HS256"}
    server = Server(secret, idp.jwk(SHORT_RSA, "two"), {**idp.jwk(ELLIPTIC, "three"), "use": "enc"})
    by_secret = idp.token(key="x" * 32, algorithm="HS256")
    # Even where somebody lists HS256 among the algorithms: tokens.ASYMMETRIC stands before it.
    issuer = issuer_with(server, ("HS256", "RS256", "ES256"))

    for forged in (
        by_secret,
        idp.token(key=SHORT_RSA, kid="two"),
        idp.token(key=ELLIPTIC, algorithm="ES256", kid="three"),
    ):
        with pytest.raises(TokenRefused):
            await verified(forged, issuer)


@given(st.text(max_size=200) | st.builds(".".join, st.lists(st.text(max_size=20), min_size=3, max_size=3)))
def test_whatever_is_sent_is_refused_and_never_an_error(text: str) -> None:
    try:
        unverified(text)
    except TokenRefused:
        return
    assert text.count(".") == 2
