"""The material of signing keys: made, sealed for its table, opened again, shown as a JWK (RFC 7517)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar, get_args
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from api.config import Algorithm
from api.core.ids import uuid7
from api.core.sealing import seal, unseal

ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key with everything that signing and verifying need; it is good for one algorithm and no other.

    Attributes:
        kid: Its name in the header of a token.
        number: The how-manieth it is.
        algorithm: The only one that it is used with.
        active_from: When it begins to sign.
        private: What signs; None if it was sealed with another secret key.
        public: What verifies; None if nothing is known but what signs, and that is sealed.
        public_jwk: What others verify with; None for HS256, which has nothing that may be shown.
    """

    kid: str
    number: int
    algorithm: Algorithm
    active_from: datetime
    private: Any
    public: Any
    public_jwk: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A new key, as its table takes it."""

    id: UUID
    algorithm: Algorithm
    public_jwk: dict[str, str] | None
    sealed: bytes


class InOrder(Protocol):
    """What two keys are put in order by."""

    @property
    def active_from(self) -> datetime: ...

    @property
    def number(self) -> int: ...


K = TypeVar("K", bound=InOrder)


def order(key: InOrder) -> tuple[datetime, int]:
    """Return what keys are sorted by: each signs until the next one does."""
    return key.active_from, key.number


def signing(keys: Iterable[K], now: datetime) -> K | None:
    """Return the key that signs now: the latest that has begun."""
    return max((key for key in keys if key.active_from <= now), key=order, default=None)


def make_sealed(algorithm: Algorithm, key: bytes) -> SealedKey:
    """Return a new key, sealed. Takes half a second for RSA: not for the event loop, nor for a transaction."""
    key_id, material = uuid7(), make(algorithm)
    kid = str(key_id)
    return SealedKey(
        id=key_id,
        algorithm=algorithm,
        public_jwk=public_jwk(kid, algorithm, material),
        sealed=seal(material, key, purpose=purpose(kid, algorithm)),
    )


def make(algorithm: Algorithm) -> bytes:
    """Return the material of a new key: PKCS #8, or 32 random bytes for HS256."""
    if algorithm == "HS256":
        return os.urandom(32)
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if algorithm == "EdDSA":
        key = ed25519.Ed25519PrivateKey.generate()
    elif algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_jwk(kid: str, algorithm: Algorithm, material: bytes) -> dict[str, str] | None:
    """Return what others verify with, or None where that would be the secret itself."""
    if algorithm == "HS256":
        return None
    implementation = jwt.get_algorithm_by_name(algorithm)
    shown = implementation.to_jwk(opened(algorithm, material).public_key(), as_dict=True)
    return {name: shown[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in shown} | {
        "kid": kid,
        "alg": algorithm,
        "use": "sig",
    }


def opened(algorithm: Algorithm, material: bytes) -> Any:
    """Return what PyJWT signs with."""
    if algorithm == "HS256":
        return material
    # Only what we sealed ourselves comes here; to check the primes of RSA again would hold the event loop for 0.2 s.
    return serialization.load_der_private_key(material, password=None, unsafe_skip_rsa_key_validation=True)


def purpose(kid: str, algorithm: str) -> str:
    """Return what a sealed key cannot be moved from."""
    return f"apictl signing key {kid} {algorithm}"


def signing_key(
    kid: str,
    algorithm: Algorithm,
    *,
    number: int,
    active_from: datetime,
    sealed: bytes,
    shown: dict[str, str] | None,
    key: bytes,
) -> SigningKey:
    """Return a row's key, ready for use."""
    material = unseal(sealed, key, purpose=purpose(kid, algorithm))
    private = None if material is None else opened(algorithm, material)
    # What verifies is taken from what is published: a key that cannot be opened any more still verifies.
    public = private if shown is None else jwt.PyJWK(shown, algorithm=algorithm).key
    return SigningKey(kid, number, algorithm, active_from, private, public, shown)
