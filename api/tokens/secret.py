"""The format of refresh tokens: pure functions, no clock and no database."""

import base64
import hashlib
import hmac
import re
import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

PREFIX: Final = "apictl_rt_"
# Which key and format, for the day when there is another; then the session, and the number of the rotation.
BODY: Final = struct.Struct(">B16sI")
VERSION: Final = 1
MAC_BYTES: Final = 32
ENCODED_LENGTH: Final = -(-(BODY.size + MAC_BYTES) * 4 // 3)
FORM: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{{ENCODED_LENGTH}}}", re.ASCII)
MAX_ROTATION: Final = 2**31 - 2


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One refresh token: its session, and the how-manieth of the family it is, counted from 0."""

    session_id: UUID
    rotation: int

    def encode(self, key: bytes) -> str:
        """Return the token's text.

        The same session and number always give the same text. So the child of a rotation can be handed out again
        when its answer was lost, and nothing of it needs to be stored.
        """
        body = BODY.pack(VERSION, self.session_id.bytes, self.rotation)
        return PREFIX + base64.urlsafe_b64encode(body + mac(body, key)).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str, key: bytes) -> "RefreshToken | None":
        """Return the token, or None if its text was not made with this key."""
        if not FORM.fullmatch(text):
            return None
        encoded = text.removeprefix(PREFIX)
        raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        _, session_id, rotation = BODY.unpack(raw[: BODY.size])
        token = cls(UUID(bytes=session_id), rotation)
        # Comparing the text, not the bytes: base64 has several spellings of one value, and only ours is a token.
        return token if hmac.compare_digest(text, token.encode(key)) and rotation <= MAX_ROTATION else None


def mac(body: bytes, key: bytes) -> bytes:
    """Return the HMAC-SHA-256 of a token's body."""
    return hmac.new(key, body, hashlib.sha256).digest()
