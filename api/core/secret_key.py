"""The secret key: where it comes from, and what makes one too weak to start with."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from api.config import Settings
from api.core.errors import BadSettings

MIN_BYTES: Final = 32
# Samples from tutorials, templates and documentation; a key that contains one is known to everybody.
KNOWN_WORDS: Final = (
    "changeme",
    "changethis",
    "change-me",
    "change-this",
    "your-secret",
    "your_secret",
    "supersecret",
    "not-so-secret",
    "insecure",
    "password",
    "example",
    "09d25e094faa6ca2556c818166b7a956",
)
GENERATE: Final = "set APICTL_SECRET_KEY to the output of: openssl rand -hex 32"


def load_secret_key(settings: Settings, *, create: bool = False) -> bytes:
    """Return the secret that every other key is derived from or sealed with.

    Args:
        settings: Names the key, or the folder where a generated one is kept.
        create: Generate a key, in a file that only its owner can read, where there is none.

    Raises:
        BadSettings: There is no key, it is weak or well known, or others can read its file.
    """
    if settings.secret_key is not None:
        key = settings.secret_key.get_secret_value()
        refuse_weak(key, source="APICTL_SECRET_KEY")
        return key.encode()
    path = settings.home / "secret_key"
    if create:
        generate(path)
    try:
        if path.stat().st_mode & 0o077:
            raise BadSettings(f"Others can read {path}", hint=f"replace the key, then: chmod 600 '{path}'")
        key = path.read_text().strip()
    except FileNotFoundError:
        raise BadSettings(
            "There is no secret key",
            cause=f"APICTL_SECRET_KEY is not set, and there is no {path.absolute()}",
            hint=f"bring back the one that was there; only where there is no database yet: {GENERATE}",
        ) from None
    except OSError as error:
        raise BadSettings(f"The secret key in {path} cannot be read", cause=error.strerror) from None
    refuse_weak(key, source=str(path))
    return key.encode()


def generate(path: Path) -> None:
    """Write a new key to a 0600 file, unless there is one; of two at once, one wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    try:
        # A link, not a rename: it fails where a key exists, and nobody ever sees half a key.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(scratch)
    finally:
        scratch.unlink()


def refuse_weak(key: str, *, source: str) -> None:
    """Let a key pass only if it could have come from a random generator.

    Raises:
        BadSettings: It is short, repetitive, or a known sample.
    """
    folded = key.lower()
    if len(key.encode()) < MIN_BYTES:
        problem = f"it has {len(key.encode())} bytes; at least {MIN_BYTES} are needed"
    elif any(word in folded for word in KNOWN_WORDS):
        problem = "it contains a well-known sample value"
    elif len(set(key)) < 10:
        problem = "it repeats a few characters"
    else:
        return
    raise BadSettings(f"The secret key in {source} is too weak", cause=problem, hint=GENERATE)
