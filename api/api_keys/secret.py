"""The format of API keys: pure functions, no clock and no database.

    apictl_key_ + id (22 characters) + secret (43) + checksum (6), each in base 62

One word, so that a double click selects all of it; a prefix and a checksum, so that a scanner of source code knows one
when it sees one, and a misspelt one costs no query.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

PREFIX: Final = "apictl_key_"
ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 22, 43, 6
SECRET_BITS: Final = 256
FORM: Final = re.compile(
    rf"{PREFIX}([0-9A-Za-z]{{{ID_LENGTH}}})[0-9A-Za-z]{{{SECRET_LENGTH}}}([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})", re.ASCII
)


def encode(number: int, length: int) -> str:
    """Return a number in base 62, filled up to this length."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def decode(text: str) -> int:
    """Return the number that is written in base 62."""
    number = 0
    for character in text:
        number = number * 62 + ALPHABET.index(character)
    return number


def checksum(text: str) -> str:
    """Return the checksum of everything before it."""
    return encode(zlib.crc32(text.encode()), CHECKSUM_LENGTH)


@dataclass(frozen=True, slots=True)
class ApiKeySecret:
    """The text of one API key, which only its holder has, and the id under which its digest is stored."""

    id: UUID
    text: str

    @classmethod
    def new(cls, key_id: UUID) -> Self:
        """Return a new secret for this id, of 256 random bits."""
        body = PREFIX + encode(key_id.int, ID_LENGTH) + encode(secrets.randbits(SECRET_BITS), SECRET_LENGTH)
        return cls(key_id, body + checksum(body))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the key that is written there, or None if it is misspelt, or something else."""
        found = FORM.fullmatch(text)
        if found is None or checksum(text[:-CHECKSUM_LENGTH]) != found[2]:
            return None
        number = decode(found[1])
        return cls(UUID(int=number), text) if number < 1 << 128 else None

    @property
    def digest(self) -> bytes:
        """What is stored of it. Fast on purpose: 256 random bits cannot be guessed at any speed."""
        return hashlib.sha256(self.text.encode()).digest()
