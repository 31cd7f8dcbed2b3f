"""Signing keys for tests that have no database."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from api.config import Algorithm
from api.signing_keys.jwk import SigningKey, make, opened, public_jwk
from api.tokens.keys import Keys

ISSUER: Final = "http://localhost:8000"
SECRET: Final = b"0123456789abcdef" * 4
BEGUN: Final = datetime(2026, 1, 1, tzinfo=UTC)


def signing_key(kid: str, algorithm: Algorithm, material: bytes | None = None) -> SigningKey:
    """Return a key that is good now."""
    material = material or make(algorithm)
    private = opened(algorithm, material)
    public = private if algorithm == "HS256" else private.public_key()
    return SigningKey(kid, UUID(kid).int, algorithm, BEGUN, private, public, public_jwk(kid, algorithm, material))


def keys_with(*ring: SigningKey, secret: bytes = SECRET, issuer: str = ISSUER) -> Keys:
    """Return keys with this ring, of which the last one signs."""
    keys = Keys(secret, issuer=issuer)
    keys.fill(ring, now=datetime.now(UTC), at=float("inf"))
    return keys
