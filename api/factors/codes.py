"""One-time passwords, recovery codes and mfa_tokens: pure functions, no clock and no database."""

import hmac
import re
import secrets
from typing import Final

import pyotp

# Of an mfa_token.
PREFIX: Final = "apictl_mfa_"
FORM: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)
# RFC 6238: six digits, a new one every 30 seconds; the one before and the one after are taken too, for clocks differ.
STEP: Final = 30
WINDOW: Final = 1
OTP_FORM: Final = re.compile(r"\d{6}", re.ASCII)
# No look-alikes: 31 letters, 20 of them, 99 bits.
LETTERS: Final = "23456789abcdefghjkmnpqrstuvwxyz"
RECOVERY_CODES: Final = 10


def new_totp_secret() -> str:
    """Return 160 random bits, as an app takes them (base 32)."""
    return pyotp.random_base32()


def otpauth(secret: str, *, account: str, issuer: str) -> str:
    """Return the URI that an app reads from a QR code."""
    return pyotp.TOTP(secret, interval=STEP).provisioning_uri(name=account, issuer_name=issuer)


def qr_code(uri: str) -> str:
    """Return the URI as a QR code: an SVG element of squares only, dark on light whatever page it stands in."""
    import segno  # noqa: PLC0415 - only whoever enrols needs it

    return segno.make(uri, error="m", micro=False).svg_inline(scale=4, dark="#000", light="#fff", border=4)


def step_of(secret: str, otp: str, *, now: float) -> int | None:
    """Return the time step whose password this is, if it is one of the present; None if not."""
    typed = re.sub(r"\s", "", otp)
    if not OTP_FORM.fullmatch(typed):
        return None
    totp, present = pyotp.TOTP(secret, interval=STEP), int(now) // STEP
    steps = range(present - WINDOW, present + WINDOW + 1)
    # All are compared: how long it takes tells nothing.
    found = [step for step in steps if hmac.compare_digest(totp.generate_otp(step), typed)]
    return max(found, default=None)


def new_recovery_code() -> str:
    """Return a code that survives being written down."""
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(5)) for _ in range(4))


def new_mfa_token() -> str:
    """Return a token that stands for a right password: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def as_written(recovery_code: str) -> str:
    """Return a recovery code as it was given out, whatever case and spaces it was typed with."""
    letters = re.sub(r"[\s-]", "", recovery_code).lower()
    return "-".join(letters[start : start + 5] for start in range(0, len(letters), 5))
