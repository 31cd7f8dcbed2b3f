"""What goes in and out about roles, and about what decides."""

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from api.core.actor import ALL_SCOPES, Scope
from api.core.pagination import Limit, Page
from api.core.text import Line, Name
from api.users.schemas import Body, RoleName, UserRef

RESERVED: Final = "superuser"


def not_reserved(name: str) -> str:
    """Return the name, unless it is the one of the power that is no role.

    Raises:
        ValueError: It is.
    """
    if name == RESERVED:
        raise ValueError("a superuser holds every scope, and is made by: apictl promote-user")
    return name


def known_scopes(names: list[str]) -> list[str]:
    """Return the scopes in order, each once.

    Raises:
        ValueError: One of them does not exist.
    """
    unknown = sorted(set(names) - ALL_SCOPES)
    if unknown:
        joined = (
            "--scope takes one, and is repeated for more: "
            if any(ALL_SCOPES.issuperset(name.split(",")) for name in unknown)
            else ""
        )
        raise ValueError(f"{joined}there is no scope {', '.join(unknown)}; there are {', '.join(sorted(ALL_SCOPES))}")
    return sorted(set(names))


Scopes = Annotated[
    # Text, not Scope: a strict body would refuse "users:read" as not yet being one.
    list[Annotated[str, StringConstraints(max_length=64)]],
    # Counted as they were sent, before each is kept once.
    Field(max_length=len(Scope), examples=[["users:read"]]),
    AfterValidator(known_scopes),
]


class RoleCreate(Body):
    """A new role."""

    name: Annotated[
        RoleName,
        AfterValidator(not_reserved),
        Field(description="Lower-case letters, digits and hyphens; for good.", examples=["support"]),
    ]
    description: Annotated[Name, Field(description="What it is for.", examples=["Helps people who cannot log in"])] = ""
    scopes: Annotated[Scopes, Field(description="What whoever has it may do.")]


class RoleUpdate(Body):
    """What may change of a role; what is left out stays."""

    description: Annotated[Name | None, Field(description="What it is for.")] = None
    scopes: Annotated[Scopes | None, Field(description="All that whoever has it may do afterwards.")] = None


class RolePath(BaseModel):
    """What names a role in a path, and on the terminal."""

    role: RoleName


class RoleRead(BaseModel):
    """A role, as both doors show it."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")

    name: str
    description: str
    scopes: list[str]
    created_at: datetime
    updated_at: datetime
    version: int


class RolePage(Page):
    """A page of roles."""

    items: list[RoleRead]


class RoleQuery(BaseModel):
    """Which roles to list: all, in the order of their names."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[Limit, Field(description="Roles a page.")] = 50
    cursor: Annotated[Line | None, Field(max_length=1000, description="`next_cursor` of the page before.")] = None


class Question(BaseModel):
    """Whether a user may do something."""

    model_config = ConfigDict(extra="forbid")

    user: UserRef
    can: Annotated[
        Scope,
        BeforeValidator(lambda value: value.replace(".", ":") if isinstance(value, str) else value),
        Field(description="The scope, as `users:delete`.", examples=["users:delete"]),
    ]


class Explanation(BaseModel):
    """Whether a user may do something, and the rule that decides."""

    model_config = ConfigDict(extra="forbid")

    user_id: UUID
    user: str
    can: Scope
    allowed: bool
    rule: str
