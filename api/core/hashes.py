"""Hashes of passwords: the one that we make, and those that we check."""

from dataclasses import dataclass
from time import thread_time
from typing import Final

# libpass installs under this name; beside passlib itself, one overwrites the other.
from passlib.context import CryptContext

from api.core import foreign_hashes
from api.core.derivations import Argon2

# OWASP ASVS 5.0, appendix C: argon2id with t=2 needs m >= 19 MiB. One lane: a login then costs one core.
ROUNDS: Final = 2
ARGON2: Final = {
    "argon2__type": "ID",
    "argon2__time_cost": ROUNDS,
    "argon2__memory_cost": 19 * 1024,
    "argon2__parallelism": 1,
}
# What logins for unknown accounts are checked against: by the live policy, so at the same cost. The digest is made up,
# so nobody has the password.
DUMMY_HASH: Final = (
    f"$argon2id$v=19$m={ARGON2['argon2__memory_cost']},t={ARGON2['argon2__time_cost']},p={ARGON2['argon2__parallelism']}"
    "$c2FsdCBvZiBub2JvZHkncw$bm9ib2R5IGhhcyB0aGUgcGFzc3dvcmQgb2YgdGhpcyE"
)
CONTEXT: Final = CryptContext(schemes=["argon2"], **ARGON2)


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
    """Check a password against a stored hash, ours or another system's; with none, spend the same time and say no.

    A hash of which `foreign_hashes.canonical` would say that it is malformed, or costs too much, is nobody's.
    """
    try:
        derivation = foreign_hashes.parse(DUMMY_HASH if stored is None else stored)
        ok = derivation.matches(password) and stored is not None
        current = isinstance(derivation, Argon2) and not CONTEXT.needs_update(derivation.text)
        if not ok and not current:
            # Many cost far less than ours: without it, that would tell that there is such an account.
            foreign_hashes.parse(DUMMY_HASH).matches(password)
    except ValueError:
        return Verified(ok=False)
    return Verified(ok=ok, rehash=make(password) if ok and not current else None)


def cost() -> tuple[float, int]:
    """Return what a hash takes, in seconds of a processor (whoever else is at work does not count), and its rounds."""
    began = thread_time()
    check("", None)
    return thread_time() - began, ROUNDS
