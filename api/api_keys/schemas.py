"""What goes in and out about API keys."""

from datetime import datetime
from ipaddress import IPv6Network, ip_network
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.core.pagination import Limit, Page
from api.core.text import Line, Name
from api.roles.schemas import Scopes
from api.users.schemas import Body, UserRef

DAY: Final = 86400
DEFAULT_LIFE: Final = 90 * DAY
DEFAULT_OVERLAP: Final = DAY


def network(value: str) -> str:
    """Return the network in its one form: `10.1.2.3/8` is `10.0.0.0/8`, and an address is a network of one.

    Raises:
        ValueError: It is neither.
    """
    try:
        # A zone (fe80::1%eth0) could hold anything, and names an interface of one machine.
        found = ip_network("" if "%" in value else value, strict=False)
    except ValueError:
        raise ValueError("it is neither an IP address nor a network such as 10.0.0.0/8") from None
    if isinstance(found, IPv6Network) and found.prefixlen >= 96 and found.network_address.ipv4_mapped is not None:
        # As which a client's address is compared, too.
        return str(ip_network((found.network_address.ipv4_mapped, found.prefixlen - 96)))
    return str(found)


Network = Annotated[str, StringConstraints(max_length=64), AfterValidator(network)]
# In one order: a state that names them in another one has no other key made.
Networks = Annotated[list[Network], AfterValidator(lambda networks: sorted(set(networks)))]


class ApiKeyTerms(Body):
    """What an API key is for, and how far it goes."""

    name: Annotated[Name, Field(min_length=1, description="What it is for.", examples=["nightly export"])]
    scopes: Annotated[
        Scopes, Field(description="What it may do, of what its owner may; none: no more than tell who it is.")
    ] = Field(default_factory=list)
    networks: Annotated[
        Networks | None,
        Field(
            min_length=1,
            max_length=32,
            description="Where it may be used from: addresses or networks; left out: from everywhere.",
            examples=[["10.0.0.0/8"]],
        ),
    ] = None
    expires_in: Annotated[
        int | None,
        Field(
            ge=60,
            le=10 * 365 * DAY,
            description="Seconds until it ends; null: when it is revoked.",
            examples=[DEFAULT_LIFE],
        ),
    ] = DEFAULT_LIFE


class ApiKeyCreate(ApiKeyTerms):
    """A new API key."""

    user: UserRef


class ApiKeyRotate(Body):
    """How to replace an API key."""

    overlap: Annotated[
        int, Field(ge=0, le=90 * DAY, description="Seconds during which the old key goes on beside its successor.")
    ] = DEFAULT_OVERLAP


class ApiKeyRead(BaseModel):
    """An API key, as both doors show it; never its text."""

    model_config = ConfigDict(extra="forbid")

    id: UUID
    user_id: UUID
    user: str
    name: str
    scopes: list[str]
    networks: list[str] | None
    is_live: bool
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    last_used_address: str | None
    successor_id: UUID | None
    revoked_at: datetime | None


class ApiKeyIssued(ApiKeyRead):
    """A new API key with its text, which is shown this once."""

    key: Annotated[str, Field(description="Send it as `Authorization: Bearer …`; shown only now.")]


class ApiKeyPage(Page):
    """A page of API keys."""

    items: list[ApiKeyRead]


class ApiKeyQuery(BaseModel):
    """Which API keys to list."""

    model_config = ConfigDict(extra="forbid")

    user: Annotated[UserRef | None, Field(description="Only this user's or service account's.")] = None
    live: Annotated[bool, Field(description="Only those that still work.")] = False
    limit: Annotated[Limit, Field(description="Keys a page.")] = 50
    cursor: Annotated[Line | None, Field(max_length=1000, description="`next_cursor` of the page before.")] = None
