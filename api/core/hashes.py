"""Hashes of passwords: the one that we make, and those that we check."""

from dataclasses import dataclass
from typing import Final

# libpass installs under this name; beside passlib itself, one overwrites the other.
from passlib.context import CryptContext
from passlib.exc import PasslibSecurityError, PasswordSizeError, UnknownHashError

BCRYPT_MAX_BYTES: Final = 72
# OWASP ASVS 5.0, appendix C: argon2id with t=2 needs m >= 19 MiB. One lane: a login then costs one core.
ARGON2: Final = {
    "argon2__type": "ID",
    "argon2__time_cost": 2,
    "argon2__memory_cost": 19 * 1024,
    "argon2__parallelism": 1,
}
# What logins for unknown accounts are checked against: by the live policy, so at the same cost. The digest is made up,
# so nobody has the password.
DUMMY_HASH: Final = (
    f"$argon2id$v=19$m={ARGON2['argon2__memory_cost']},t={ARGON2['argon2__time_cost']},p={ARGON2['argon2__parallelism']}"
    "$c2FsdCBvZiBub2JvZHkncw$bm9ib2R5IGhhcyB0aGUgcGFzc3dvcmQgb2YgdGhpcyE"
)
SCHEMES: Final = [
    "argon2",
    "bcrypt",
    "pbkdf2_sha256",
    "pbkdf2_sha512",
    "scrypt",
    "django_pbkdf2_sha256",
]
CONTEXT: Final = CryptContext(schemes=SCHEMES, deprecated="auto", **ARGON2)


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of a check; `rehash` is the hash to store when the old one is out of date."""

    ok: bool
    rehash: str | None = None


def make(password: str) -> str:
    """Return the hash of a password, as we make them."""
    made: str = CONTEXT.hash(password)
    return made


def check(password: str, stored: str | None) -> Verified:
    """Check a password against a stored hash; with none, spend the same time and say no."""
    if stored is None:
        CONTEXT.verify(password, DUMMY_HASH)
        return Verified(ok=False)
    if stored.startswith("$2") and len(password.encode()) > BCRYPT_MAX_BYTES:
        # bcrypt 5 raises, where older ones compared the first 72 bytes only.
        return Verified(ok=False)
    try:
        ok, rehash = CONTEXT.verify_and_update(password, stored)
    except (UnknownHashError, PasswordSizeError, PasslibSecurityError, ValueError):
        # A hash that no scheme of ours made can belong to nobody.
        return Verified(ok=False)
    return Verified(ok=bool(ok), rehash=rehash)
