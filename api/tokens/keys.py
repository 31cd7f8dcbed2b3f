"""Signing and verifying access tokens (RFC 9068), and what is derived from the one secret key. No database here."""

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from api.config import Settings
from api.core.errors import BadSettings
from api.core.ids import uuid7
from api.core.secret_key import load_secret_key
from api.signing_keys.jwk import SigningKey, signing
from api.tokens.refusals import InvalidToken

log: Final = logging.getLogger("apictl")

TYPE: Final = "at+jwt"
# The one public client: whoever logs in with a password or a code.
CLIENT_ID: Final = "apictl"
# Clocks of two servers may differ by this much, in seconds.
LEEWAY: Final = 60
# No time after this (in the year 10889) is meant.
LATEST: Final = 2**48 // 1000
MAX_LENGTH: Final = 4096
COMPACT_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
REQUIRED: Final = ["iss", "aud", "sub", "iat", "exp", "jti"]
# Verified tokens that are not verified once more: about five megabytes.
REMEMBERED: Final = 4096


class UnknownKey(Exception):
    """A token names a key that is not in hand; another process may have made it a moment ago."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified access token says.

    Attributes:
        user_id: Its owner.
        session_id: The session that it hangs on.
        api_key_id: The API key that it hangs on instead, if it was got for one.
        scope: What it was narrowed to; None where the session or key alone decides.
        expires: When it ends, in seconds since 1970.
    """

    user_id: UUID
    session_id: UUID | None
    api_key_id: UUID | None
    scope: frozenset[str] | None
    expires: int


class Keys:
    """The keys in a process's hands: those derived from the secret key, and the ring that `signing_keys` fills.

    Attributes:
        issuer: Whom access tokens name as their issuer.
        public_url: Where passkeys are good.
        refresh: Authenticates refresh tokens.
        sealing: Encrypts the signing keys in their table.
        challenges: Authenticates the challenges that passkeys sign.
        links: Makes the secrets of links in mails.
        ring: The signing keys by their `kid`.
        filled_at: When the reading of the ring began, on the monotonic clock.
        reading: Whoever reads it again, for all who wait.
    """

    def __init__(self, secret: bytes, *, issuer: str, public_url: str | None = None) -> None:
        self.issuer = issuer
        self.public_url = public_url or issuer
        self.refresh = derive(secret, "refresh token HMAC")
        self.sealing = derive(secret, "signing keys AES-256-GCM")
        self.challenges = derive(secret, "passkey challenges HMAC")
        self.links = derive(secret, "mail links HMAC")
        self.ring: dict[str, SigningKey] = {}
        self.filled_at = float("-inf")
        self.reading: asyncio.Task[None] | None = None
        self._clock_offset = timedelta(0)
        self._verified: dict[str, tuple[SigningKey, Claims]] = {}
        # Off by default in PyJWT, which would take a key of five bytes with a warning.
        self._jwt = jwt.PyJWT({"enforce_minimum_key_length": True})

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Return the keys of a deployment, with an empty ring.

        Raises:
            BadSettings: There is no secret key, or it is weak.
        """
        return cls(load_secret_key(settings), issuer=settings.issuer, public_url=settings.public_url)

    def fill(self, keys: Iterable[SigningKey], *, now: datetime, at: float) -> None:
        """Take these keys into the ring, and no others.

        Args:
            keys: All that sign, will sign, or verify.
            now: The database's time: keys begin by it.
            at: When the reading began, on the monotonic clock.
        """
        self.ring = {key.kid: key for key in keys}
        self.filled_at = at
        self._clock_offset = now - datetime.now(UTC)

    def now(self) -> datetime:
        """Return the database's time: what is decided by it is the same on servers whose clocks differ."""
        return datetime.now(UTC) + self._clock_offset

    def require_signing(self) -> SigningKey:
        """Return the key that signs now: of those that can be opened, the latest that has begun.

        Raises:
            BadSettings: None can: they were sealed with another secret key.
        """
        now = self.now()
        found = signing((key for key in self.ring.values() if key.private is not None), now)
        if found is None:
            raise BadSettings(
                "No signing key can be opened",
                cause="they were sealed with another APICTL_SECRET_KEY",
                hint="bring that one back; or give the keys up, and sign with a new one: apictl rotate-keys --wait 0",
            )
        if found is not signing(self.ring.values(), now):
            log.error("A later signing key than %s was sealed with another secret key, and is not used", found.kid)
        return found

    def sign(
        self,
        *,
        user_id: UUID,
        session_id: UUID | None = None,
        api_key_id: UUID | None = None,
        client_id: str = CLIENT_ID,
        ttl: int,
        scope: frozenset[str] | None = None,
    ) -> str:
        """Return an access token that lives `ttl` seconds and hangs on a session or on an API key.

        Raises:
            BadSettings: The key that signs was sealed with another secret key.
        """
        now = int(datetime.now(UTC).timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": str(user_id),
            "client_id": client_id,
            "iat": now,
            "exp": now + ttl,
            "jti": uuid7().hex,
        }
        claims |= {"sid": str(session_id)} if session_id is not None else {"api_key": str(api_key_id)}
        if scope is not None:
            claims["scope"] = " ".join(sorted(scope))
        key = self.require_signing()
        return self._jwt.encode(claims, key.private, algorithm=key.algorithm, headers={"typ": TYPE, "kid": key.kid})

    def verify(self, token: str) -> Claims:
        """Return what a token says, if a key of the ring signed it and its time has not passed.

        Stricter than PyJWT, which takes any `typ`, times given as text, and unknown header parameters.

        Raises:
            InvalidToken: For every reason there is.
            UnknownKey: It names a key that is not in the ring.
        """
        remembered = self._verified.get(token)
        if remembered is not None:
            key, claims = remembered
            if self.ring.get(key.kid) is key and time.time() < claims.expires + LEEWAY:
                return claims
            del self._verified[token]
        try:
            key = self._key_of(token)
            claims = self._read(
                self._jwt.decode(
                    token,
                    key.public,
                    algorithms=[key.algorithm],
                    issuer=self.issuer,
                    audience=self.issuer,
                    leeway=LEEWAY,
                    options={"require": REQUIRED},
                )
            )
        except (jwt.InvalidIssuerError, jwt.InvalidAudienceError):
            # Its signature is right: one of ours, made by a process with another setting.
            log.warning("An access token was refused: it does not name APICTL_ISSUER, which here is %s", self.issuer)
            raise InvalidToken from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidToken from None
        if len(self._verified) >= REMEMBERED:
            # The one that came first; a token that is still in use comes back.
            del self._verified[next(iter(self._verified))]
        self._verified[token] = key, claims
        return claims

    def _key_of(self, token: str) -> SigningKey:
        if len(token) > MAX_LENGTH or not COMPACT_FORM.fullmatch(token):
            raise ValueError("not a compact JWS")
        encoded = token.partition(".")[0]
        header = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        kid = header["kid"] if type(header) is dict and "kid" in header else None
        # The text of a UUID: whatever else is in there asks for no reading of the ring.
        if not isinstance(kid, str) or str(UUID(kid)) != kid:
            raise ValueError("not a kid of ours")
        key = self.ring.get(kid)
        if key is None:
            raise UnknownKey
        # Equality refuses jku, jwk, x5u, crit and whatever else could choose the key for us.
        if key.public is None or header != {"alg": key.algorithm, "typ": TYPE, "kid": kid}:
            raise ValueError("not a header of ours")
        return key

    @staticmethod
    def _read(claims: dict[str, Any]) -> Claims:
        for name in ("iat", "exp", "nbf"):
            value = claims.get(name, 0)
            if type(value) is not int or not 0 <= value < LATEST:
                raise TypeError(f"{name} is not a time")
        for name in ("sub", "sid", "api_key", "jti", "aud", "scope"):
            if not isinstance(claims.get(name, ""), str):
                raise TypeError(f"{name} is not text")
        if ("sid" in claims) == ("api_key" in claims):
            raise ValueError("it hangs on a session or on an API key")
        return Claims(
            user_id=UUID(claims["sub"]),
            session_id=UUID(claims["sid"]) if "sid" in claims else None,
            api_key_id=UUID(claims["api_key"]) if "api_key" in claims else None,
            scope=frozenset(claims["scope"].split()) if "scope" in claims else None,
            expires=claims["exp"],
        )


def derive(secret: bytes, purpose: str) -> bytes:
    """Return 32 bytes for one purpose (HKDF, RFC 5869): no two purposes share a key."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"apictl {purpose}".encode()).derive(secret)
