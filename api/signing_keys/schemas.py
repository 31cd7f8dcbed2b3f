"""What goes in and out about signing keys."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.config import Algorithm
from api.core.pagination import Limit, Page
from api.core.text import Line
from api.users.schemas import Body

# How long others may keep what /.well-known/jwks.json answers, in seconds.
MAX_AGE: Final = 300
# Until everybody has seen a new key: those who keep an answer as long as they may, and a margin.
DEFAULT_WAIT: Final = 2 * MAX_AGE

State = Literal["pending", "signing", "verifying", "retired"]


class SigningKeyCreate(Body):
    """How to make the next signing key."""

    algorithm: Annotated[
        Algorithm | None, Field(description="What it signs with; left out: APICTL_SIGNING_ALGORITHM.")
    ] = None
    wait: Annotated[
        int,
        Field(
            ge=0,
            le=30 * 86400,
            description="Seconds from its publication until it signs: others must have fetched it by then.",
        ),
    ] = DEFAULT_WAIT


class SigningKeyRetire(BaseModel):
    """How to retire a signing key."""

    model_config = ConfigDict(extra="forbid")

    force: Annotated[
        bool, Field(description="Also while tokens that it signed may be good: for a key that somebody has stolen.")
    ] = False


class SigningKeyRead(BaseModel):
    """A signing key, as both doors show it; never what signs."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")

    id: Annotated[UUID, Field(description="The `kid` of its tokens.")]
    algorithm: str
    state: Annotated[
        State, Field(description="Published and waiting, signing, verifying what it has signed, or retired.")
    ]
    public_jwk: Annotated[dict[str, Any] | None, Field(description="What others verify with (RFC 7517).")]
    created_at: datetime
    active_from: datetime
    retired_at: datetime | None


class SigningKeyPage(Page):
    """A page of signing keys."""

    items: list[SigningKeyRead]


class SigningKeyQuery(BaseModel):
    """Which signing keys to list: all, the newest first."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[Limit, Field(description="Keys a page.")] = 50
    cursor: Annotated[Line | None, Field(max_length=1000, description="`next_cursor` of the page before.")] = None


class JwkSet(BaseModel):
    """The keys that others verify access tokens with (RFC 7517, section 5)."""

    model_config = ConfigDict(extra="forbid")

    keys: list[dict[str, Any]]
