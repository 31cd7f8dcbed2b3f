"""What holds the audit log together, computed here as the database's trigger computes it: pure functions.

An entry's digest is the SHA-256 of its columns as PostgreSQL's binary array of bytes, in which every value has its
length before it, and NULL a length of its own. A link's hash is that of the link before, its lane, its number, the ids
of its entries and their digests. The other account of both is the migration that made the trigger.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from struct import pack
from typing import Any, Final
from uuid import UUID

# PostgreSQL's own numbers of the types.
BYTEA, UUID_TYPE = 17, 2950
SIZE: Final = 32
# In the order in which they are digested.
COLUMNS: Final = (
    "id",
    "at",
    "actor",
    "actor_user_id",
    "api_key_id",
    "door",
    "action",
    "target",
    "target_id",
    "outcome",
    "detail",
    "request_id",
)


def digest(values: Iterable[Any]) -> bytes:
    """Return the digest of an entry: its columns in their order, the time and the detail as `crud.RAW` has them."""
    return sha256(array([None if value is None else as_bytes(value) for value in values], BYTEA)).digest()


def link_hash(before: bytes, lane: int, n: int, entries: Sequence[UUID], digests: bytes) -> bytes:
    """Return the hash of a link; `before` is that of the one before it, and empty for the first."""
    ids = array([one.bytes for one in entries], UUID_TYPE)
    return sha256(before + pack("!iq", lane, n) + ids + digests).digest()


def as_bytes(value: Any) -> bytes:
    """Return what PostgreSQL sends for a value."""
    if isinstance(value, bytes):
        return value
    return value.bytes if isinstance(value, UUID) else str(value).encode()


def array(parts: Sequence[bytes | None], element_type: int) -> bytes:
    """Return PostgreSQL's binary form of an array of one dimension (`array_send`)."""
    head = pack("!iiiii", 1, None in parts, element_type, len(parts), 1)
    return head + b"".join(pack("!i", -1) if part is None else pack("!i", len(part)) + part for part in parts)
