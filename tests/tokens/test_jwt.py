"""Access tokens that this service did not make, or no longer means: none is accepted, none is a 500."""

import base64
import hmac
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from fastapi import FastAPI
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.signing_keys.jwk import ALGORITHMS, SigningKey
from api.tokens import crud as sessions
from api.tokens.keys import UnknownKey
from api.tokens.refusals import InvalidToken
from api.users.models import User
from tests.support.cases import cases
from tests.support.keys import ISSUER, SECRET, keys_with, signing_key

# One key of each algorithm; the one that signs is HS256, for which a test can make any token with the right signature.
SIGNING = b"k" * 32
KIDS = {"RS256": str(uuid.UUID(int=21)), "ES256": str(uuid.UUID(int=22)), "EdDSA": str(uuid.UUID(int=23))}
RING: dict[str, SigningKey] = {
    algorithm: signing_key(KIDS[algorithm], algorithm) for algorithm in ALGORITHMS if algorithm in KIDS
}
RING["HS256"] = signing_key(str(uuid.UUID(int=24)), "HS256", SIGNING)
KEYS = keys_with(*RING.values())
USER, SESSION = uuid.UUID(int=1), uuid.UUID(int=2)


def encode(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(part: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return parsed


def valid() -> str:
    return KEYS.sign(user_id=USER, session_id=SESSION, ttl=900)


def signed(header: Any, claims: Any, key: bytes = SIGNING, *, digest: str = "sha256") -> str:
    """Return a token with exactly this header and these claims, signed with the right key."""
    text = f"{encode(header)}.{encode(claims)}"
    return f"{text}.{encode(hmac.new(key, text.encode(), digest).digest())}"


HEADER = decode(valid().split(".")[0])
CLAIMS = decode(valid().split(".")[1])
NOW = int(time.time())


def with_claim(name: str, value: Any) -> str:
    return signed(HEADER, CLAIMS | {name: value})


def without_claim(name: str) -> str:
    return signed(HEADER, {key: value for key, value in CLAIMS.items() if key != name})


def with_header(name: str, value: Any) -> str:
    return signed(HEADER | {name: value}, CLAIMS)


def by(key: Any, algorithm: str, kid: str) -> str:
    """Return a token with our claims, signed by this key, whose header names another or none of ours."""
    return jwt.encode(CLAIMS, key, algorithm=algorithm, headers=HEADER | {"alg": algorithm, "kid": kid})


def with_public_key_as_secret(kid: str, public: bytes) -> str:
    """The classic: whoever takes the algorithm from the token checks an HMAC with a key that everybody knows."""
    return signed(HEADER | {"alg": "HS256", "kid": kid}, CLAIMS, public)


def raw(key: ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def pem(algorithm: str) -> bytes:
    key = RING[algorithm].public
    encoded: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


BAD: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "words": lambda: "not a token",
    "two parts": lambda: valid().rpartition(".")[0],
    "four parts": lambda: valid() + ".x",
    "no signature": lambda: valid().rpartition(".")[0] + ".",
    "padded": lambda: valid() + "=",
    "long": lambda: valid() + "A" * 5000,
    "unicode": lambda: valid()[:-2] + "\u00e9\u00e9",
    "surrogate": lambda: valid() + "\ud800",
    "newline": lambda: valid() + "\n",
    "none": lambda: f"{encode(HEADER | {'alg': 'none'})}.{encode(CLAIMS)}.",
    "None": lambda: signed(HEADER | {"alg": "None"}, CLAIMS),
    "HS384": lambda: signed(HEADER | {"alg": "HS384"}, CLAIMS, digest="sha384"),
    "our kid, a foreign Ed25519 key": lambda: by(ed25519.Ed25519PrivateKey.generate(), "EdDSA", KIDS["EdDSA"]),
    "our kid, a foreign RSA key": lambda: by(rsa.generate_private_key(65537, 2048), "RS256", KIDS["RS256"]),
    "an HMAC key's kid, an Ed25519 signature": lambda: by(RING["EdDSA"].private, "EdDSA", HEADER["kid"]),
    "an RSA key's kid, an Ed25519 signature": lambda: by(RING["EdDSA"].private, "EdDSA", KIDS["RS256"]),
    "our RSA key, another algorithm": lambda: by(RING["RS256"].private, "PS256", KIDS["RS256"]),
    "our RSA key, a longer digest": lambda: by(RING["RS256"].private, "RS512", KIDS["RS256"]),
    "HMAC with the Ed25519 key": lambda: with_public_key_as_secret(KIDS["EdDSA"], raw(RING["EdDSA"].public)),
    "HMAC with the Ed25519 key's PEM": lambda: with_public_key_as_secret(KIDS["EdDSA"], pem("EdDSA")),
    "HMAC with the RSA key's PEM": lambda: with_public_key_as_secret(KIDS["RS256"], pem("RS256")),
    "HMAC with the JWK": lambda: with_public_key_as_secret(
        KIDS["ES256"], json.dumps(RING["ES256"].public_jwk).encode()
    ),
    "retired key": lambda: by(ed25519.Ed25519PrivateKey.generate(), "EdDSA", str(uuid.UUID(int=99))),
    "other secret, our kid": lambda: signed(HEADER, CLAIMS, b"f" * 32),
    "empty key": lambda: signed(HEADER, CLAIMS, b""),
    "the secret itself": lambda: signed(HEADER, CLAIMS, SECRET),
    "other issuer": lambda: with_claim("iss", "https://evil.example"),
    "expired": lambda: KEYS.sign(user_id=USER, session_id=SESSION, ttl=-61),
    "expired for long": lambda: KEYS.sign(user_id=USER, session_id=SESSION, ttl=-120),
    "no typ": lambda: signed({key: value for key, value in HEADER.items() if key != "typ"}, CLAIMS),
    "typ JWT": lambda: with_header("typ", "JWT"),
    "typ refresh": lambda: with_header("typ", "rt+jwt"),
    "no kid": lambda: signed({key: value for key, value in HEADER.items() if key != "kid"}, CLAIMS),
    "kid in capitals": lambda: with_header("kid", HEADER["kid"].replace("-", "")),
    "kid path": lambda: with_header("kid", "../../dev/null"),
    "kid number": lambda: with_header("kid", 1),
    "kid list": lambda: with_header("kid", [HEADER["kid"]]),
    "jku": lambda: with_header("jku", "https://evil.example/jwks"),
    "jwk": lambda: with_header("jwk", {"kty": "oct", "k": encode(b"k" * 32)}),
    "x5u": lambda: with_header("x5u", "https://evil.example/cert"),
    "crit": lambda: with_header("crit", ["exp"]),
    "b64": lambda: with_header("b64", False),
    "header list": lambda: signed([], CLAIMS),
    "header deep": lambda: signed(b"[" * 2000, CLAIMS),
    "header not JSON": lambda: signed(b"\xff\xfe", CLAIMS),
    "claims list": lambda: signed(HEADER, []),
    "claims text": lambda: signed(HEADER, "x"),
    "claims not JSON": lambda: signed(HEADER, b"{"),
    "claims deep": lambda: signed(HEADER, b'{"a":' + b"[" * 2000),
    "exp text": lambda: with_claim("exp", "9999999999"),
    "exp float": lambda: with_claim("exp", NOW + 900.5),
    "exp true": lambda: with_claim("exp", True),
    "exp null": lambda: with_claim("exp", None),
    "exp huge": lambda: with_claim("exp", 10**400),
    "exp huger": lambda: signed(HEADER, json.dumps(CLAIMS).replace(str(CLAIMS["exp"]), "9" * 5000).encode()),
    "exp infinite": lambda: signed(HEADER, json.dumps(CLAIMS | {"exp": float("inf")}).encode()),
    "exp nan": lambda: signed(HEADER, json.dumps(CLAIMS | {"exp": float("nan")}).encode()),
    "iat text": lambda: with_claim("iat", str(NOW)),
    "iat future": lambda: with_claim("iat", NOW + 3600),
    "iat in two minutes": lambda: with_claim("iat", int(time.time()) + 120),
    "nbf future": lambda: with_claim("nbf", NOW + 3600),
    "nbf text": lambda: with_claim("nbf", "0"),
    "aud list": lambda: with_claim("aud", [ISSUER]),
    "aud other": lambda: with_claim("aud", "https://other.example"),
    "iss list": lambda: with_claim("iss", [ISSUER]),
    "sub number": lambda: with_claim("sub", 1),
    "sub text": lambda: with_claim("sub", "root"),
    "sid list": lambda: with_claim("sid", [str(SESSION)]),
    "sid surrogate": lambda: with_claim("sid", "\ud800"),
    "scope list": lambda: with_claim("scope", ["users:read"]),
    "jti number": lambda: with_claim("jti", 7),
    "session and API key": lambda: with_claim("api_key", str(SESSION)),
    "API key list": lambda: signed(HEADER, {k: v for k, v in CLAIMS.items() if k != "sid"} | {"api_key": ["x"]}),
    **{f"no {name}": (lambda name=name: without_claim(name)) for name in CLAIMS if name != "client_id"},  # type: ignore[misc]
}


def test_clocks_may_differ_by_a_minute() -> None:
    """Row 16: an hour's, or two minutes', difference is refused: `BAD`."""
    for token in (
        KEYS.sign(user_id=USER, session_id=SESSION, ttl=-45),
        with_claim("iat", int(time.time()) + 45),
        with_claim("nbf", int(time.time()) + 45),
    ):
        assert KEYS.verify(token).user_id == USER


def test_a_key_that_can_be_guessed_verifies_nothing() -> None:
    """Row 13: PyJWT only warns of it, unless it is told."""
    weak = keys_with(signing_key(HEADER["kid"], "HS256", b"k" * 5))
    with pytest.raises(InvalidToken):
        weak.verify(signed(HEADER, CLAIMS, b"k" * 5))


def test_what_we_sign_we_accept() -> None:
    claims = KEYS.verify(valid())
    assert (claims.user_id, claims.session_id, claims.scope) == (USER, SESSION, None)
    assert HEADER["typ"] == "at+jwt"
    assert set(CLAIMS) == {"iss", "aud", "sub", "sid", "client_id", "iat", "exp", "jti"}
    # The helper that makes the bad ones makes good ones too: they are refused for what they are meant to be.
    assert KEYS.verify(signed(HEADER, CLAIMS)).user_id == USER


@pytest.mark.parametrize("kind", BAD)
def test_none_of_these_is_accepted(kind: str) -> None:
    with pytest.raises(UnknownKey if kind == "retired key" else InvalidToken):
        KEYS.verify(BAD[kind]())


def test_a_token_of_ours_for_another_issuer_is_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """An operator whose terminal has another setting than the server sees a 401, and no reason."""
    for kind, told in (("other issuer", True), ("other secret, our kid", False), ("expired", False)):
        caplog.clear()
        with pytest.raises(InvalidToken):
            KEYS.verify(BAD[kind]())
        assert ("APICTL_ISSUER" in caplog.text) == told, kind


@pytest.mark.parametrize("algorithm", RING)
def test_every_algorithm(algorithm: str) -> None:
    key = RING[algorithm]
    keys = keys_with(key)
    token = keys.sign(user_id=USER, session_id=SESSION, ttl=900)
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "at+jwt", "kid": key.kid}
    assert keys.verify(token).user_id == USER
    # The others' ring has it as well, and it alone verifies.
    assert KEYS.verify(token).session_id == SESSION


def test_what_was_verified_is_not_verified_again_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = keys_with(RING["EdDSA"])
    decoded: list[str] = []
    decode = keys._jwt.decode

    def counted(token: str, *arguments: Any, **options: Any) -> Any:
        decoded.append(token)
        return decode(token, *arguments, **options)

    monkeypatch.setattr(keys._jwt, "decode", counted)
    token = keys.sign(user_id=USER, session_id=SESSION, ttl=900)
    assert keys.verify(token) is keys.verify(token)
    assert decoded == [token]
    end = keys.verify(token).expires + 60
    monkeypatch.setattr("api.tokens.keys.time.time", lambda: end)
    keys.verify(token)
    assert decoded == [token, token]


def test_what_a_retired_key_has_verified_is_forgotten() -> None:
    keys = keys_with(RING["EdDSA"])
    token = keys.sign(user_id=USER, session_id=SESSION, ttl=900)
    keys.verify(token)
    keys.fill([RING["ES256"]], now=datetime.now(UTC), at=0.0)
    with pytest.raises(UnknownKey):
        keys.verify(token)


def test_no_more_is_remembered_than_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.tokens.keys.REMEMBERED", 3)
    keys = keys_with(RING["EdDSA"])
    tokens = [keys.sign(user_id=USER, session_id=SESSION, ttl=900) for _ in range(5)]
    for token in tokens:
        keys.verify(token)
    assert list(keys._verified) == tokens[2:]


def test_no_mutation_is_accepted() -> None:
    """Row 12: characters changed, added, taken, moved; bits of the decoded parts turned."""
    token = valid()
    random = Random(20261123)  # noqa: S311 - the same mutations every time
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \x00\u00e9"
    parts = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]
    for _ in range(cases(100_000)):
        if random.random() < 0.5:
            start, length = random.randrange(len(token)), random.randrange(4)
            added = "".join(random.choices(alphabet, k=random.randrange(4)))
            mutated = token[:start] + added + token[start + length :]
        else:
            changed = list(parts)
            which = random.randrange(3)
            raw = bytearray(changed[which])
            raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
            changed[which] = bytes(raw)
            mutated = ".".join(encode(part) for part in changed)
        if mutated == token:
            continue
        with pytest.raises((InvalidToken, UnknownKey)):
            KEYS.verify(mutated)


@given(header=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()), claims=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8,
))  # fmt: skip
@hypothesis_settings(max_examples=200, deadline=None, database=None)
def test_no_invention_is_accepted(header: dict[str, Any], claims: Any) -> None:
    for token in (signed(header, CLAIMS), signed(HEADER, claims), signed(HEADER | header, CLAIMS)):
        if (header and set(header) - set(HEADER)) or token.split(".")[1] != encode(CLAIMS) or not header:
            if token == signed(HEADER, CLAIMS):
                continue
            with pytest.raises((InvalidToken, UnknownKey)):
                KEYS.verify(token)


async def test_a_bad_token_is_a_401_with_one_answer_for_all(
    app: FastAPI, client: httpx2.AsyncClient, superuser: User
) -> None:
    async with app.state.runtime.transaction() as session:
        row = await sessions.add(session, user_id=superuser.id, ttl=3600)
    app.state.keys.fill(RING.values(), now=datetime.now(UTC), at=float("inf"))
    app.state.keys.issuer = ISSUER
    live = {"sub": str(superuser.id), "sid": str(row.id)}
    good = await client.get("/v1/users/me", headers={"Authorization": f"Bearer {signed(HEADER, CLAIMS | live)}"})
    assert good.status_code == 200, "the bad ones are to be refused for what is bad about them"
    bodies = []
    with pytest.MonkeyPatch.context() as patch:
        # The same corpus, about a session that lives.
        patch.setitem(CLAIMS, "sub", live["sub"])
        patch.setitem(CLAIMS, "sid", live["sid"])
        patch.setattr("tests.tokens.test_jwt.USER", superuser.id)
        patch.setattr("tests.tokens.test_jwt.SESSION", row.id)
        for kind, make in BAD.items():
            token = make().encode("utf-8", "surrogatepass")
            if b"\n" in token or not token:
                continue
            answer = await client.get("/v1/users/me", headers=[(b"Authorization", b"Bearer " + token)])
            assert answer.status_code == 401, kind
            body = answer.json()
            body.pop("request_id")
            bodies.append(body)
    assert bodies.count(bodies[0]) == len(bodies)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "bearer", "Basic cm9vdDpyb290", "Token x", "Bearer\tx", "Bearer x y"]
)
async def test_what_is_no_bearer_token_is_a_401(client: httpx2.AsyncClient, header: str) -> None:
    answer = await client.get("/v1/users/me", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
