"""Secrets that a table keeps: encrypted and bound to what they are for, or only their digest. Pure functions."""

import hashlib
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 12


def seal(secret: bytes, key: bytes, *, purpose: str) -> bytes:
    """Return a secret, encrypted: a nonce, then AES-256-GCM; it cannot be moved to another purpose."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, secret, purpose.encode())


def unseal(sealed: bytes, key: bytes, *, purpose: str) -> bytes | None:
    """Return the secret, or None if it was sealed with another key, or for another purpose."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], purpose.encode())
    except (InvalidTag, ValueError):
        return None


def digest(secret: str) -> bytes:
    """Return what is stored of a random secret that is only compared; no speed helps to guess 99 bits, or 256."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
