"""What goes in and out about tokens and sessions."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.core.pagination import Limit, Page
from api.core.text import Line, Name
from api.roles.schemas import Scopes
from api.users.schemas import Body, UserRef

FormField = Annotated[str | None, StringConstraints(max_length=8192)]
# Kept while a second factor, or a person's decision, is waited for.
FormScope = Annotated[
    Annotated[Line, StringConstraints(max_length=1000)] | None,
    Field(description="Scopes separated by spaces; left out: everything.", examples=[""]),
]


class ClientForm(BaseModel):
    """What every form of the OAuth endpoints has; what a form does not name is ignored, as RFC 6749 asks."""

    client_id: Annotated[
        FormField, Field(description="A service account's name or id; not needed otherwise.", examples=[""])
    ] = None
    client_secret: Annotated[
        FormField,
        Field(
            description="One of its API keys; or both by HTTP Basic.",
            json_schema_extra={"format": "password"},
            examples=[""],
        ),
    ] = None


class LoginForm(ClientForm):
    """The form of the token endpoint."""

    grant_type: Annotated[
        FormField,
        Field(
            description="`password`, `refresh_token`, `client_credentials`, RFC 8628's, or ours for factors.",
            examples=["password"],
        ),
    ] = None
    username: Annotated[FormField, Field(description="The e-mail address.", examples=["ada@example.com"])] = None
    password: Annotated[FormField, Field(json_schema_extra={"format": "password"}, examples=[""])] = None
    refresh_token: Annotated[FormField, Field(description="For the refresh grant.", examples=[""])] = None
    otp: Annotated[FormField, Field(description="The second factor, at once or after `mfa_required`.")] = None
    mfa_token: Annotated[FormField, Field(description="What `mfa_required` came with.", examples=[""])] = None
    recovery_code: Annotated[FormField, Field(description="Instead of `otp`.", examples=[""])] = None
    credential: Annotated[
        FormField,
        Field(description="A passkey's answer, the JSON of `credential.toJSON()`: alone or after `mfa_required`."),
    ] = None
    device_code: Annotated[FormField, Field(description="For the device grant.", examples=[""])] = None
    scope: FormScope = None


class PasskeyForm(BaseModel):
    """The form that begins a login with a passkey."""

    mfa_token: Annotated[
        FormField, Field(description="What `mfa_required` came with; left out: the passkey logs in alone.")
    ] = None


class TokenCreate(Body):
    """What an administrator gives to issue tokens for a user without their password."""

    user: UserRef
    label: Annotated[Name, Field(description="What it is for.", examples=["nightly export"])] = ""
    scopes: Annotated[
        Scopes | None, Field(description="What the tokens may do; left out: whatever their owner may.")
    ] = None
    expires_in: Annotated[
        int | None,
        Field(ge=60, le=10 * 365 * 86400, description="Seconds until the session ends.", examples=[86400]),
    ] = None


class TokenRefused(BaseModel):
    """The refusal of the token endpoint (RFC 6749, section 5.2), beside the members of every problem."""

    error: str
    error_description: str
    code: str


class TokenIssued(BaseModel):
    """The answer of the token endpoint (RFC 6749, section 5.1), with the session's id."""

    model_config = ConfigDict(extra="forbid")

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the name of a kind, no secret
    expires_in: Annotated[int, Field(description="Seconds that the access token is good for.")]
    refresh_token: Annotated[str | None, Field(description="None for a client's own token.")] = None
    scope: Annotated[str | None, Field(description="What the access token may do now.")] = None
    session_id: Annotated[UUID | None, Field(description="None for a client's own token.")] = None


class TokenRead(BaseModel):
    """A session and the tokens that hang on it, as both doors show it; never the tokens themselves."""

    model_config = ConfigDict(extra="forbid")

    id: UUID
    user_id: UUID
    user: str
    label: str
    scopes: list[str] | None
    user_agent: str
    address: str
    is_live: bool
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoked_because: str | None


class TokensRevoke(BaseModel):
    """Whose sessions to end."""

    model_config = ConfigDict(extra="forbid")

    user: Annotated[UserRef | None, Field(description="Whose; left out: one's own.")] = None
    keep: Annotated[UUID | None, Field(description="A session of theirs that goes on: `session_id` of a login.")] = None


class TokensRevoked(BaseModel):
    """How many sessions were ended."""

    model_config = ConfigDict(extra="forbid")

    user_id: UUID
    user: str
    kept: UUID | None
    revoked: Annotated[int, Field(description="Sessions that were not ended before.")]


class TokenPage(Page):
    """A page of sessions."""

    items: list[TokenRead]


class TokenQuery(BaseModel):
    """Which sessions to list."""

    model_config = ConfigDict(extra="forbid")

    user: Annotated[UserRef | None, Field(description="Only this user's, by id or e-mail address.")] = None
    live: Annotated[bool, Field(description="Only those that still work.")] = False
    limit: Annotated[Limit, Field(description="Sessions a page.")] = 50
    cursor: Annotated[Line | None, Field(max_length=1000, description="`next_cursor` of the page before.")] = None
