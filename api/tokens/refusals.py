"""How a token is refused, and how the OAuth endpoints refuse (RFC 6749, section 5.2; RFC 8628); and the grants."""

from typing import Any, ClassVar, Final

from api.core.actor import ALL_SCOPES
from api.core.errors import ApictlError, Kind

DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
MFA: Final = "urn:apictl:params:oauth:grant-type:mfa"
PASSKEY: Final = "urn:apictl:params:oauth:grant-type:passkey"
GRANT_TYPES: Final = ("password", "refresh_token", "client_credentials", DEVICE_CODE, MFA, PASSKEY)
KNOWN_SCOPES: Final = f"the scopes are: {' '.join(sorted(ALL_SCOPES))}"
NEXT_STEP: Final = f"send a form with grant_type={MFA}, mfa_token, and otp, recovery_code or credential"


class InvalidToken(ApictlError):
    """The bearer token is malformed, foreign, expired, revoked, or its user is not active."""

    kind = Kind.NOT_AUTHENTICATED
    code = "invalid-token"
    # One sentence for every reason: which of them it was would help an attacker only.
    title = "The access token is not valid"
    default_hint = "use the refresh token, or log in again; an API key may have ended, or not be good from here"
    authenticate = 'Bearer realm="apictl", error="invalid_token"'


class OAuthError(ApictlError):
    """A refusal by the token endpoint, with the members of RFC 6749, section 5.2, besides the problem's own."""

    kind = Kind.USAGE
    code = "invalid-request"
    title = "The token request cannot be read"
    media_type = "application/json"
    error: ClassVar[str] = "invalid_request"

    def members(self) -> dict[str, str]:
        """Return `error` and `error_description`, which OAuth clients look for."""
        return {"error": self.error, "error_description": self.detail}


class InvalidGrant(OAuthError):
    """The password, or the refresh token, is not good; one answer for every reason."""

    kind = Kind.CREDENTIALS
    code = "invalid-grant"
    title = "The credentials are not right"
    default_hint = "begin again: log in"
    error = "invalid_grant"


class InvalidClient(OAuthError):
    """The client's id and secret are not right; one answer for every reason."""

    kind = Kind.NOT_AUTHENTICATED
    code = "invalid-client"
    title = "The client could not be authenticated"
    default_hint = "client_id: a service account's name; client_secret: one of its API keys; a public client sends none"
    authenticate = 'Basic realm="apictl"'
    error = "invalid_client"


class UnauthorizedClient(OAuthError):
    """The client may not use this grant."""

    code = "unauthorized-client"
    title = "This client may not use this grant"
    error = "unauthorized_client"


class InvalidScope(OAuthError):
    """None of the scopes asked for can be granted."""

    code = "invalid-scope"
    title = "The scope asked for cannot be granted"
    error = "invalid_scope"


class MfaRequired(OAuthError):
    """The password is right, and not enough."""

    kind = Kind.CREDENTIALS
    code = "mfa-required"
    title = "A second factor is needed"
    error = "mfa_required"

    def __init__(self, detail: str | None = None, *, mfa_token: str = "", **words: Any) -> None:
        super().__init__(detail, **words)
        self.mfa_token = mfa_token

    def members(self) -> dict[str, str]:
        """Return what goes on with the login, besides what OAuth clients look for."""
        return super().members() | {"mfa_token": self.mfa_token}


class UnsupportedGrantType(OAuthError):
    """The grant type is unknown here."""

    code = "unsupported-grant-type"
    title = "This grant type is not supported"
    error = "unsupported_grant_type"
