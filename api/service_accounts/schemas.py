"""What goes in about service accounts; what comes out is a user."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.users.schemas import SLUG, AccountQuery, Body, FullName, RoleName, slug


def no_id(name: str) -> str:
    """Return the name, unless it could be taken for an id.

    Raises:
        ValueError: It could.
    """
    try:
        UUID(name)
    except ValueError:
        return name
    raise ValueError("it looks like an id")


ServiceAccountName = Annotated[
    str,
    AfterValidator(slug),
    AfterValidator(no_id),
    Field(
        description="Lower-case letters, digits and hyphens; for good.",
        examples=["deploy"],
        json_schema_extra={"pattern": SLUG},
    ),
]
Sort = Literal["created_at", "-created_at", "name", "-name"]


def not_a_route(name: str) -> str:
    """Return the name, unless it stands for whoever asks, in `/v1/users/me`.

    Raises:
        ValueError: It does.
    """
    if name == "me":
        raise ValueError("it stands for whoever asks")
    return name


class ServiceAccountCreate(Body):
    """A new service account."""

    name: Annotated[ServiceAccountName, AfterValidator(not_a_route)]
    full_name: Annotated[FullName, Field(description="What it is for.", examples=["Deploys the web site"])] = ""
    roles: Annotated[
        list[RoleName],
        Field(max_length=100, description="What it may do.", examples=[["support"]]),
    ] = Field(default_factory=list)


class CreateOptions(BaseModel):
    """How to create a service account; a misspelt option is refused."""

    model_config = ConfigDict(extra="forbid")

    if_exists: Annotated[Literal["fail", "skip"], Field(description="What to do if the name is taken.")] = "fail"


class ServiceAccountQuery(AccountQuery):
    """Which service accounts to list."""

    sort: Annotated[Sort, Field(description="Order; a minus sign reverses it.")] = "name"
