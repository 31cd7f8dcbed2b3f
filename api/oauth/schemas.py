"""What goes in and out of the OAuth endpoints besides the token endpoint."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.tokens.schemas import ClientForm, FormField


class TokenForm(ClientForm):
    """A token to be looked at or ended."""

    token: Annotated[FormField, Field(description="An access token, a refresh token, or an API key.")] = None
    token_type_hint: Annotated[FormField, Field(description="Not needed: a token says itself what it is.")] = None


class Introspection(BaseModel):
    """What a token is good for now (RFC 7662, section 2.2); of one that is good for nothing, `active` alone."""

    model_config = ConfigDict(extra="forbid")

    active: bool
    scope: Annotated[str | None, Field(description="What it may do now, separated by spaces.")] = None
    client_id: Annotated[str | None, Field(description="What it was issued to.")] = None
    username: Annotated[str | None, Field(description="Its owner's e-mail address, or service account's name.")] = None
    token_type: Annotated[Literal["Bearer"] | None, Field(description="Absent for a refresh token.")] = None
    exp: Annotated[int | None, Field(description="When it ends, in seconds since 1970.")] = None
    sub: Annotated[UUID | None, Field(description="Its owner's id.")] = None
    iss: Annotated[str | None, Field(description="Who issued it.")] = None
    aud: Annotated[str | None, Field(description="Whom it is for.")] = None


class ServerMetadata(BaseModel):
    """Where everything is, and what it can do (RFC 8414, section 2)."""

    model_config = ConfigDict(extra="forbid")

    issuer: str
    token_endpoint: str
    jwks_uri: str
    device_authorization_endpoint: str
    revocation_endpoint: str
    introspection_endpoint: str
    service_documentation: str
    grant_types_supported: list[str]
    response_types_supported: list[str]
    scopes_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    introspection_endpoint_auth_methods_supported: list[str]
