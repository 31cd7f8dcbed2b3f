"""Signing and verifying access tokens (RFC 9068), and the keys derived from the one secret. No database here."""

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from api.config import Settings
from api.core.errors import ApictlError, Kind
from api.core.ids import uuid7
from api.core.secret_key import load_secret_key

TYPE: Final = "at+jwt"
ALGORITHM: Final = "HS256"
# Clocks of two servers may differ by this much, in seconds.
LEEWAY: Final = 60
# No time after this (in the year 10889) is meant.
LATEST: Final = 2**48 // 1000
MAX_LENGTH: Final = 4096
COMPACT_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
REQUIRED: Final = ["iss", "aud", "sub", "iat", "exp", "jti", "sid"]


class InvalidToken(ApictlError):
    """The bearer token is malformed, foreign, expired, revoked, or its user is not active."""

    kind = Kind.NOT_AUTHENTICATED
    code = "invalid-token"
    # One sentence for every reason: which of them it was would help an attacker only.
    title = "The access token is not valid"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified access token says; `scope` is None where the session alone decides."""

    user_id: UUID
    session_id: UUID
    scope: frozenset[str] | None


class Keys:
    """The signing key and the refresh key, derived from the secret key so that neither can stand for the other."""

    def __init__(self, secret: bytes, *, issuer: str) -> None:
        self._issuer = issuer
        self._signing = derive(secret, "access token HS256")
        self.refresh = derive(secret, "refresh token HMAC")
        # A name for the key that tells nothing of it.
        self._kid = base64.urlsafe_b64encode(derive(secret, "kid")[:9]).decode()
        # Off by default in PyJWT, which would take a key of five bytes with a warning.
        self._jwt = jwt.PyJWT({"enforce_minimum_key_length": True})

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Return the keys of a deployment.

        Raises:
            BadSettings: There is no secret key, or it is weak.
        """
        return cls(load_secret_key(settings), issuer=settings.issuer)

    def sign(self, *, user_id: UUID, session_id: UUID, ttl: int, scope: frozenset[str] | None = None) -> str:
        """Return an access token that lives `ttl` seconds."""
        now = int(datetime.now(UTC).timestamp())
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": str(user_id),
            "sid": str(session_id),
            "client_id": "apictl",
            "iat": now,
            "exp": now + ttl,
            "jti": uuid7().hex,
        }
        if scope is not None:
            claims["scope"] = " ".join(sorted(scope))
        return self._jwt.encode(claims, self._signing, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": self._kid})

    def verify(self, token: str) -> Claims:
        """Return what a token says, if this service signed it and its time has not passed.

        Stricter than PyJWT, which takes any `typ`, times given as text, and unknown header parameters.

        Raises:
            InvalidToken: For every reason there is.
        """
        try:
            self._check_header(token)
            claims = self._jwt.decode(
                token,
                self._signing,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._issuer,
                leeway=LEEWAY,
                options={"require": REQUIRED},
            )
            return self._read(claims)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidToken from None

    def _check_header(self, token: str) -> None:
        if len(token) > MAX_LENGTH or not COMPACT_FORM.fullmatch(token):
            raise ValueError("not a compact JWS")
        encoded = token.partition(".")[0]
        header = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        # Equality refuses jku, jwk, x5u, crit and whatever else could choose the key for us.
        if header != {"alg": ALGORITHM, "typ": TYPE, "kid": self._kid}:
            raise ValueError("not a header of ours")

    @staticmethod
    def _read(claims: dict[str, Any]) -> Claims:
        for name in ("iat", "exp", "nbf"):
            value = claims.get(name, 0)
            if type(value) is not int or not 0 <= value < LATEST:
                raise TypeError(f"{name} is not a time")
        for name in ("sub", "sid", "jti", "aud", "scope"):
            if not isinstance(claims.get(name, ""), str):
                raise TypeError(f"{name} is not text")
        scope = frozenset(claims["scope"].split()) if "scope" in claims else None
        return Claims(UUID(claims["sub"]), UUID(claims["sid"]), scope)


def derive(secret: bytes, purpose: str) -> bytes:
    """Return 32 bytes for one purpose (HKDF, RFC 5869): no two purposes share a key."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"apictl {purpose}".encode()).derive(secret)
