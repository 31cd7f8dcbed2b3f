"""What goes in and out about devices that want to act for somebody."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.core.text import Line
from api.tokens.schemas import ClientForm, FormScope

LIFETIME = 600

UserCode = Annotated[
    Line,
    StringConstraints(min_length=1, max_length=40),
    Field(description="What the device shows, as `WDJB-MJHT`."),
]


class DeviceForm(ClientForm):
    """The form of the device authorisation endpoint."""

    scope: FormScope = None


class DeviceIssued(BaseModel):
    """The answer of the device authorisation endpoint (RFC 8628, section 3.2)."""

    model_config = ConfigDict(extra="forbid")

    device_code: Annotated[str, Field(description="What the device sends to the token endpoint.")]
    user_code: Annotated[str, Field(description="What the device shows.")]
    verification_uri: Annotated[str, Field(description="Where a person types it.")]
    verification_uri_complete: Annotated[str, Field(description="The same, with the code filled in.")]
    expires_in: Annotated[int, Field(description="Seconds that both codes are good for.")]
    interval: Annotated[int, Field(description="Seconds between two questions at the token endpoint.")]


class DeviceRead(BaseModel):
    """A device that waits, as whoever is to decide sees it."""

    model_config = ConfigDict(extra="forbid")

    user_code: str
    user_agent: Annotated[str, Field(description="What the device says that it is.")]
    address: Annotated[str, Field(description="Where its request came from.")]
    scope: Annotated[str, Field(description="What it wants to do, separated by spaces; empty: all that you may.")]
    approved: Annotated[bool | None, Field(description="What was decided; null: nothing yet.")]
    created_at: datetime
    expires_at: datetime
