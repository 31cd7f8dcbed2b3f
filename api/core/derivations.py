"""The algorithms that password hashes are made with: the text of each, what it may cost, whether a password fits it."""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from bcrypt import checkpw

# What somebody else's hash may cost, every time that its owner logs in: with each of these, about five seconds of a
# core, which nobody else can use. Who brings dearer ones could hold up everybody.
ARGON2_KIBIBYTES: Final = 256 * 1024
ARGON2_PASSES: Final = 100
ARGON2_KIBIBYTES_OF_ALL_PASSES: Final = 16 * ARGON2_KIBIBYTES
ARGON2_LANES: Final = 64
BCRYPT_ROUNDS: Final = 16
PBKDF2_ITERATIONS: Final = 5_000_000
SCRYPT_KIBIBYTES: Final = 256 * 1024
# Python carries these out itself, and the event loop has to wait for it: a quarter of a second.
PHPASS_ROUNDS: Final = 19

BCRYPT_MAX_BYTES: Final = 72
SALT_BYTES: Final = 512
DIGEST_BYTES: Final = frozenset({20, 32, 64})
ITOA64: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Derivation(Protocol):
    """A hash with its algorithm, its parameters and its salt."""

    @property
    def text(self) -> str:
        """What is stored."""

    def matches(self, password: str) -> bool:
        """Tell whether the hash is this password's."""


@dataclass(frozen=True, slots=True)
class Argon2:
    """Argon2 (RFC 9106) in the PHC's form; `memory` is in KiB."""

    kind: Literal["id", "i", "d"]
    version: int
    memory: int
    passes: int
    lanes: int
    salt: bytes
    digest: bytes

    def __post_init__(self) -> None:
        if self.version not in {16, 19}:
            raise ValueError(f"argon2 has no version {self.version}: there are 16 and 19")
        _require_within("argon2's lanes", self.lanes, 1, ARGON2_LANES)
        _require_within("argon2's memory in KiB", self.memory, 8 * self.lanes, ARGON2_KIBIBYTES)
        _require_within("argon2's passes", self.passes, 1, ARGON2_PASSES)
        work = self.memory * self.passes
        _require_within("argon2's memory in KiB times its passes", work, 8, ARGON2_KIBIBYTES_OF_ALL_PASSES)
        _require_within("the salt's length in bytes", len(self.salt), 8, SALT_BYTES)
        _require_within("the digest's length in bytes", len(self.digest), 16, 64)

    @property
    def text(self) -> str:
        parameters = f"v={self.version}$m={self.memory},t={self.passes},p={self.lanes}"
        return f"$argon2{self.kind}${parameters}${_base64(self.salt)}${_base64(self.digest)}"

    def matches(self, password: str) -> bool:
        # Takes ten milliseconds to import, which whoever only reads hashes has no use for.
        from argon2.exceptions import VerificationError  # noqa: PLC0415
        from argon2.low_level import Type, verify_secret  # noqa: PLC0415

        try:
            return verify_secret(self.text.encode(), password.encode(), Type[self.kind.upper()])
        except VerificationError:
            return False


@dataclass(frozen=True, slots=True)
class Bcrypt:
    """Bcrypt, which takes 72 bytes; `wrap` says who made a digest of the password first, so that it may be longer."""

    wrap: Literal["", "bcrypt_sha256$", "$wp"]
    rounds: int
    bare: str

    def __post_init__(self) -> None:
        _require_within("bcrypt's rounds", self.rounds, 4, BCRYPT_ROUNDS)

    @property
    def text(self) -> str:
        return self.wrap + self.bare

    def matches(self, password: str) -> bool:
        return any(checkpw(taken, self.bare.encode()) for taken in self._taken(password))

    def _taken(self, password: str) -> Iterator[bytes]:
        if self.wrap == "bcrypt_sha256$":
            yield hashlib.sha256(password.encode()).hexdigest().encode()
        elif self.wrap == "$wp":
            for spelling in wordpress_spellings(password):
                yield b64encode(hmac.digest(b"wp-sha384", spelling.encode(), "sha384"))
        elif len(password.encode()) <= BCRYPT_MAX_BYTES:
            # Of a longer one, older versions compared the beginning only; bcrypt 5 raises.
            yield password.encode()


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    """PBKDF2 (RFC 8018) in passlib's form, with digests of any of the usual lengths: Keycloak's have 64 bytes."""

    algorithm: Literal["sha1", "sha256", "sha512"]
    iterations: int
    salt: bytes
    digest: bytes

    def __post_init__(self) -> None:
        # Each block of the digest costs them all again.
        blocks = -(-len(self.digest) // hashlib.new(self.algorithm).digest_size)
        _require_within("pbkdf2's iterations", self.iterations * blocks, 1, PBKDF2_ITERATIONS)
        _require_whole(self.salt, self.digest)

    @property
    def text(self) -> str:
        name = "pbkdf2" if self.algorithm == "sha1" else f"pbkdf2-{self.algorithm}"
        salt, digest = (_base64(part).replace("+", ".") for part in (self.salt, self.digest))
        return f"${name}${self.iterations}${salt}${digest}"

    def matches(self, password: str) -> bool:
        length = len(self.digest)
        made = hashlib.pbkdf2_hmac(self.algorithm, password.encode(), self.salt, self.iterations, length)
        return hmac.compare_digest(made, self.digest)


@dataclass(frozen=True, slots=True)
class Scrypt:
    """Scrypt (RFC 7914) in passlib's form; the memory that it works through is 128 bytes times N, r and p."""

    log2_n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    def __post_init__(self) -> None:
        _require_affordable_scrypt(self.log2_n, self.r, self.p)
        _require_whole(self.salt, self.digest)

    @property
    def text(self) -> str:
        return f"$scrypt$ln={self.log2_n},r={self.r},p={self.p}${_base64(self.salt)}${_base64(self.digest)}"

    def matches(self, password: str) -> bool:
        made = _scrypt(password, self.salt, log2_n=self.log2_n, r=self.r, p=self.p, length=len(self.digest))
        return hmac.compare_digest(made, self.digest)


@dataclass(frozen=True, slots=True)
class FirebaseScrypt:
    """Firebase's own use of scrypt (firebase/scrypt on GitHub): its key encrypts the project's signer key.

    The signer key, a secret of the project there, is in each of these hashes: without it none can be checked, and it
    has no other place here. It is of no use without the passwords, and gone with the last of the hashes.
    """

    log2_n: int
    r: int
    salt: bytes
    separator: bytes
    signer_key: bytes
    digest: bytes

    def __post_init__(self) -> None:
        _require_affordable_scrypt(self.log2_n, self.r, 1)
        _require_whole(self.salt + self.separator, self.digest)
        if len(self.signer_key) != len(self.digest):
            raise ValueError("its digest is not as long as the signer key")

    @property
    def text(self) -> str:
        parts = (self.salt, self.separator, self.signer_key, self.digest)
        return f"$firebase-scrypt$ln={self.log2_n},r={self.r}$" + "$".join(map(_base64, parts))

    def matches(self, password: str) -> bool:
        # Takes twenty milliseconds to import, and nobody else here needs it.
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415

        key = _scrypt(password, self.salt + self.separator, log2_n=self.log2_n, r=self.r, p=1, length=32)
        encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        return hmac.compare_digest(encryptor.update(self.signer_key), self.digest)


@dataclass(frozen=True, slots=True)
class Phpass:
    """What WordPress made before 6.8: `$P$`, the logarithm of the rounds, eight characters of salt, and the digest."""

    text: str

    def __post_init__(self) -> None:
        _require_within("phpass's rounds, as a power of two,", ITOA64.index(self.text[3]), 7, PHPASS_ROUNDS)

    def matches(self, password: str) -> bool:
        # Slow to import, and who only reads hashes has no use for it.
        from passlib.hash import phpass  # noqa: PLC0415

        return any(phpass.verify(spelling, self.text) for spelling in wordpress_spellings(password))


def wordpress_spellings(password: str) -> list[str]:
    """Return what WordPress may have hashed: the password trimmed, and with its forms' backslashes before quotes."""
    trimmed = password.strip(" \t\n\r\0\x0b")
    return list(dict.fromkeys((trimmed, re.sub(r"(['\"\\])", r"\\\1", trimmed))))


def _scrypt(password: str, salt: bytes, *, log2_n: int, r: int, p: int, length: int) -> bytes:
    # OpenSSL counts a few blocks more than the algorithm's own.
    most = 128 * r * ((1 << log2_n) + p + 2) + 1024
    return hashlib.scrypt(password.encode(), salt=salt, n=1 << log2_n, r=r, p=p, maxmem=most, dklen=length)


def _require_affordable_scrypt(log2_n: int, r: int, p: int) -> None:
    _require_within("scrypt's r", r, 1, 1024)
    # RFC 7914: N < 2^(128 * r / 8).
    _require_within("scrypt's N, as a power of two,", log2_n, 1, min(23, 16 * r - 1))
    _require_within("scrypt's p", p, 1, 1024)
    _require_within("scrypt's memory in KiB", (r * p << log2_n) // 8, 0, SCRYPT_KIBIBYTES)


def _require_whole(salt: bytes, digest: bytes) -> None:
    _require_within("the salt's length in bytes", len(salt), 1, SALT_BYTES)
    if len(digest) not in DIGEST_BYTES:
        raise ValueError(f"its digest has {len(digest)} bytes: it was cut off, or is of another kind")


def _require_within(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{what} must be between {least:,} and {most:,}: {value:,}")


def _base64(data: bytes) -> str:
    return b64encode(data).rstrip(b"=").decode()
