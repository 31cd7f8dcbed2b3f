"""The two codes of a device authorisation: pure functions, no clock and no database."""

import re
import secrets
from typing import Final

PREFIX: Final = "apictl_device_"
FORM: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)
# RFC 8628, section 6.1: no vowels, so no words; 34 bits, for ten minutes.
LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
LENGTH: Final = 8


def new_device_code() -> str:
    """Return what the device keeps, and shows when it asks: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def new_user_code() -> str:
    """Return what a person reads on the device, and types elsewhere."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def typed(text: str) -> str:
    """Return a code as it is stored, whatever case, hyphens and spaces it was typed with."""
    return re.sub(r"[\s-]", "", text).upper()


def shown(user_code: str) -> str:
    """Return a code as a person reads it best: WDJB-MJHT."""
    return f"{user_code[:4]}-{user_code[4:]}"
