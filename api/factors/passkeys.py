"""Passkeys (WebAuthn): challenges that need no table, and what an authenticator answers to them. No database here.

The library raises whatever it likes at a malformed answer, so every failure of it is a refusal; it does not look at
`crossOrigin`; and it takes a tenth of a second to import, which is why it is imported in the functions that need it,
and they run in a thread.
"""

import hmac
import ipaddress
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit
from uuid import UUID

from api.core.errors import BadSettings
from api.core.sealing import digest

if TYPE_CHECKING:
    from webauthn.helpers.structs import AuthenticationCredential

log: Final = logging.getLogger("apictl")

LOGIN: Final = b"login"
# Seconds from a challenge to its answer; and how far the clocks of two servers may differ.
LIFE: Final = 300
LEEWAY: Final = 60
STAMP_BYTES: Final = 24
# More than RSA with 4,096 bits takes: nobody has us compute with a number that is made to be slow.
MAX_PUBLIC_KEY: Final = 1024
# WebAuthn, section 7.1.
MAX_CREDENTIAL_ID: Final = 1023


@dataclass(frozen=True, slots=True)
class Site:
    """Where passkeys are good.

    Attributes:
        rp_id: The host, which browsers bind a passkey to (the relying party's identifier).
        origin: The scheme, host and port of the pages that may ask for one.
    """

    rp_id: str
    origin: str

    @classmethod
    def of(cls, issuer: str) -> Self:
        """Return the site of a deployment. An address of this very machine counts as `localhost`, as browsers have it.

        Raises:
            BadSettings: Browsers offer no passkeys at such a URL.
        """
        try:
            parts = urlsplit(issuer)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host = ""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            address = None
        if address is not None and address.is_loopback:
            host, address = "localhost", None
        secure = host and (parts.scheme == "https" or (parts.scheme, host) == ("http", "localhost"))
        if address is not None or not secure:
            raise BadSettings(
                "Passkeys are not to be had at this URL",
                cause="browsers bind them to a host by its name, and want https",
                hint="set APICTL_ISSUER to the URL that people open, such as https://accounts.example.com",
            )
        shown = "" if port in {None, {"https": 443, "http": 80}[parts.scheme]} else f":{port}"
        return cls(rp_id=host, origin=f"{parts.scheme}://{host}{shown}")


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """What is kept of a passkey; the private key never leaves the authenticator."""

    credential_id: bytes
    public_key: bytes
    sign_count: int


@dataclass(frozen=True, slots=True)
class Assertion:
    """An authenticator's answer to a challenge, read but not verified.

    Attributes:
        credential: All of it: which passkey it says it is, and perhaps whose.
        challenge: What it answers.
        cross_origin: Whether the page was shown inside of another site's.
    """

    credential: "AuthenticationCredential"
    challenge: bytes
    cross_origin: bool

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return what `credential.toJSON()` gave in a browser, or None if this is no such thing."""
        from webauthn.helpers import parse_authentication_credential_json, parse_client_data_json  # noqa: PLC0415

        try:
            credential = parse_authentication_credential_json(json.loads(text))
            client_data = parse_client_data_json(credential.response.client_data_json)
        except Exception:  # noqa: BLE001 - see above
            return None
        return cls(credential, client_data.challenge, cross_origin=bool(client_data.cross_origin))


def new_challenge(key: bytes, about: bytes, *, now: float) -> bytes:
    """Return a challenge for one purpose: when it was made, some random bytes, and their HMAC-SHA256."""
    stamp = int(now * 1_000_000).to_bytes(8) + os.urandom(STAMP_BYTES - 8)
    return stamp + hmac.digest(key, stamp + about, "sha256")


def made_at(challenge: bytes, key: bytes, about: bytes, *, now: float) -> int | None:
    """Return when a challenge was made, in microseconds; None if not by us, for this purpose, a short time ago."""
    stamp, tag = challenge[:STAMP_BYTES], challenge[STAMP_BYTES:]
    if not hmac.compare_digest(hmac.digest(key, stamp + about, "sha256"), tag):
        return None
    made = int.from_bytes(stamp[:8])
    return made if -LEEWAY <= now - made / 1_000_000 <= LIFE else None


def creation_options(
    site: Site, challenge: bytes, *, user_id: UUID, handle: str, existing: Sequence[bytes]
) -> dict[str, Any]:
    """Return PublicKeyCredentialCreationOptionsJSON (WebAuthn, section 5.1.8)."""
    from webauthn import generate_registration_options  # noqa: PLC0415
    from webauthn.helpers import options_to_json_dict  # noqa: PLC0415
    from webauthn.helpers.structs import (  # noqa: PLC0415
        AuthenticatorSelectionCriteria,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    options = generate_registration_options(
        rp_id=site.rp_id,
        rp_name=site.rp_id,
        user_id=user_id.bytes,
        user_name=handle,
        challenge=challenge,
        timeout=LIFE * 1000,
        exclude_credentials=[PublicKeyCredentialDescriptor(id=one) for one in existing],
        # One that its authenticator can find by itself logs in alone; an older security key is a second factor.
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.PREFERRED
        ),
    )
    return options_to_json_dict(options)


def request_options(site: Site, challenge: bytes, *, allowed: Sequence[bytes]) -> dict[str, Any]:
    """Return PublicKeyCredentialRequestOptionsJSON (WebAuthn, section 5.1.8).

    Args:
        site: Where the passkey has to be good.
        challenge: What is to be signed.
        allowed: The passkeys of whoever gave a right password; none where a passkey is to log in alone.
    """
    from webauthn import generate_authentication_options  # noqa: PLC0415
    from webauthn.helpers import options_to_json_dict  # noqa: PLC0415
    from webauthn.helpers.structs import (  # noqa: PLC0415
        PublicKeyCredentialDescriptor,
        UserVerificationRequirement,
    )

    options = generate_authentication_options(
        rp_id=site.rp_id,
        challenge=challenge,
        timeout=LIFE * 1000,
        allow_credentials=[PublicKeyCredentialDescriptor(id=one) for one in allowed],
        user_verification=(UserVerificationRequirement.PREFERRED if allowed else UserVerificationRequirement.REQUIRED),
    )
    return options_to_json_dict(options)


def registered(site: Site, document: dict[str, Any], key: bytes, about: bytes, *, now: float) -> NewPasskey | str:
    """Return the passkey that an authenticator has made, or why its answer is refused."""
    from webauthn import verify_registration_response  # noqa: PLC0415
    from webauthn.helpers import (  # noqa: PLC0415
        decode_credential_public_key,
        decoded_public_key_to_cryptography,
        parse_client_data_json,
        parse_registration_credential_json,
    )

    try:
        credential = parse_registration_credential_json(document)
        client_data = parse_client_data_json(credential.response.client_data_json)
        if made_at(client_data.challenge, key, about, now=now) is None:
            return "it answers no challenge of this enrolment, or came too late"
        if client_data.origin != site.origin:
            return f"the page was not opened at {site.origin}"
        if client_data.cross_origin:
            return "the page was shown inside of another site's"
        made = verify_registration_response(
            credential=credential,
            expected_challenge=client_data.challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
        )
        # Nothing is signed at an enrolment: a key that no signature can be verified with would be found out too late.
        decoded_public_key_to_cryptography(decode_credential_public_key(made.credential_public_key))
    except Exception as error:  # noqa: BLE001 - see above
        log.info("A passkey was refused: %s", type(error).__name__)
        return "it cannot be read"
    if len(made.credential_public_key) > MAX_PUBLIC_KEY or len(made.credential_id) > MAX_CREDENTIAL_ID:
        return "its public key or its id is too long"
    return NewPasskey(made.credential_id, made.credential_public_key, made.sign_count)


def verified(
    site: Site, assertion: Assertion, *, user_id: UUID, public_key: bytes, sign_count: int, alone: bool
) -> int | None:
    """Return the authenticator's new signature counter if a passkey has signed the challenge; None if not.

    Args:
        site: Where the passkey has to be good.
        assertion: The answer; whether its challenge was ours is the caller's to know.
        user_id: Whose passkey it is.
        public_key: What it has to be signed with.
        sign_count: The counter so far: one that goes back is a copy's.
        alone: No password was asked for, so the authenticator must have asked for a PIN or a finger.
    """
    from webauthn import verify_authentication_response  # noqa: PLC0415

    # Alone, it has to say whose it is (WebAuthn, section 7.2); an older security key never says.
    user_handle = assertion.credential.response.user_handle
    if user_handle != user_id.bytes and (alone or user_handle is not None):
        return None
    if assertion.cross_origin:
        return None
    try:
        answer = verify_authentication_response(
            credential=assertion.credential,
            expected_challenge=assertion.challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            credential_public_key=public_key,
            credential_current_sign_count=sign_count,
            require_user_verification=alone,
        )
    except Exception as error:  # noqa: BLE001 - see above
        log.info("A passkey was refused: %s", type(error).__name__)
        return None
    return answer.new_sign_count


def about_factor(factor_id: UUID) -> bytes:
    """Return the purpose of a challenge that makes this passkey."""
    return b"enrolment " + factor_id.bytes


def about_login(mfa_token: str) -> bytes:
    """Return the purpose of a challenge that goes on with this login."""
    return b"second factor " + digest(mfa_token)
