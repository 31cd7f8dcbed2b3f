"""An authenticator in software, with its browser: what they answer to WebAuthn's options, and how they may lie."""

import base64
import hashlib
import json
import os
import struct
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

USER_PRESENT: Final = 0x01
USER_VERIFIED: Final = 0x04
ATTESTED: Final = 0x40


def encoded(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Return the bytes of base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Authenticator:
    """One passkey, on a page of `origin`; the lies are attributes, to be set before it is asked."""

    def __init__(self, origin: str = "http://localhost:8000") -> None:
        self.origin = origin
        self.rp_id = "localhost"
        self.flags = USER_PRESENT | USER_VERIFIED
        self.cross_origin = False
        self.counter = 0
        self.id = os.urandom(32)
        self.key = generate_private_key(SECP256R1())
        self.user_handle: bytes | None = None

    def create(self, options: dict[str, Any], **lies: Any) -> dict[str, Any]:
        """Return what `credential.toJSON()` gives after `navigator.credentials.create()`."""
        self.user_handle = decoded(options["user"]["id"])
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)} | lies.get("cose", {})
        attested = bytes(16) + struct.pack(">H", len(self.id)) + self.id + cbor2.dumps(cose)
        data = self._data(ATTESTED) + attested
        return self._credential(
            clientDataJSON=encoded(self._client_data("webauthn.create", options)),
            attestationObject=encoded(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})),
        )

    def get(self, options: dict[str, Any], **lies: Any) -> dict[str, Any]:
        """Return what `credential.toJSON()` gives after `navigator.credentials.get()`."""
        client_data, data = self._client_data(lies.get("type", "webauthn.get"), options), self._data(0)
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ECDSA(SHA256()))
        return self._credential(
            clientDataJSON=encoded(client_data),
            authenticatorData=encoded(data),
            signature=encoded(signature),
            userHandle=None if self.user_handle is None else encoded(self.user_handle),
        )

    def _client_data(self, kind: str, options: dict[str, Any]) -> bytes:
        document = {
            "type": kind,
            "challenge": options["challenge"],
            "origin": self.origin,
            "crossOrigin": self.cross_origin,
        }
        return json.dumps(document).encode()

    def _data(self, more: int) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest() + struct.pack(">BI", self.flags | more, self.counter)

    def _credential(self, **response: str | None) -> dict[str, Any]:
        name = encoded(self.id)
        return {"id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": {}}
