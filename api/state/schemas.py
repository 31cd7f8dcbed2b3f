"""The state that is wanted, and what it takes to get there."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.api_keys.schemas import ApiKeyTerms
from api.core.text import Name
from api.roles.schemas import Scopes, not_reserved
from api.service_accounts.schemas import ServiceAccountName, not_a_route
from api.users.schemas import Body, Email, FullName, Password, RoleName

# Of each kind. More than that is data, and no state that a person looks over: import-users takes it.
MOST: Final = 10_000
# Of a request with one: some thousands of accounts. It is parsed before anybody knows whose it is, so it is not more.
MAX_BYTES: Final = 1 << 20

Kind = Literal["role", "user", "service-account", "api-key"]
Action = Literal["create", "update", "renew", "replace", "delete"]
Owner = Annotated[
    Name,
    Field(min_length=1, description="Who owns what the file makes: a name for the file.", examples=["accounts"]),
]
RoleNames = Annotated[list[RoleName], AfterValidator(lambda names: sorted(set(names)))]


class RoleState(Body):
    """A role as it should be; what is left out stays as it is."""

    name: Annotated[RoleName, AfterValidator(not_reserved)]
    description: Annotated[Name | None, Field(description="What it is for.")] = None
    scopes: Annotated[Scopes, Field(description="What whoever has it may do.")]


class AccountState(Body):
    """What people and service accounts have in common."""

    full_name: FullName | None = None
    is_active: Annotated[bool | None, Field(description="Whether they may do anything at all.")] = None
    roles: Annotated[RoleNames | None, Field(description="All the roles that they have.")] = None
    api_keys: Annotated[
        list[ApiKeyTerms] | None,
        Field(description="Live keys, known by their names; one that differs is replaced."),
    ] = None


# Bases of their own, the last ones: so that a name is the first of an account's fields.
class ByEmail(Body):
    """What a person is known by."""

    email: Email


class ByName(Body):
    """What a service account is known by."""

    name: Annotated[ServiceAccountName, AfterValidator(not_a_route)]


class UserState(AccountState, ByEmail):
    """A person as they should be; what is left out stays as it is."""

    is_superuser: Annotated[bool | None, Field(description="Whether they may do everything.")] = None
    password: Annotated[
        Password | None, Field(description="Theirs if they are created now; never anybody's who is there.")
    ] = None


class ServiceAccountState(AccountState, ByName):
    """A service account as it should be; what is left out stays as it is."""


class State(Body):
    """What there should be. What is not named here is none of its business, unless its owner made it."""

    owner: Owner
    roles: Annotated[list[RoleState], Field(max_length=MOST, description="What there is to have.")] = Field(
        default_factory=list
    )
    users: Annotated[list[UserState], Field(max_length=MOST, description="People.")] = Field(default_factory=list)
    service_accounts: Annotated[list[ServiceAccountState], Field(max_length=MOST, description="Machines.")] = Field(
        default_factory=list
    )


class PlanOptions(BaseModel):
    """How a state is planned; a misspelt option is refused."""

    model_config = ConfigDict(extra="forbid")

    take_over: Annotated[
        bool,
        Field(
            description="What the state names becomes this owner's, whoever made it and whatever other states say: to "
            "change, and to delete what a state has made."
        ),
    ] = False


class ApplyOptions(PlanOptions):
    """How a state is applied."""

    destroy: Annotated[
        bool, Field(description="Also delete and replace what the plan says; without, such a plan is refused.")
    ] = False
    plan: Annotated[
        str | None,
        Field(pattern="^[0-9a-f]{64}$", description="Only if it is still this plan, by its `digest`; else 409."),
    ] = None


class ExportStateOptions(BaseModel):
    """Which state is exported."""

    model_config = ConfigDict(extra="forbid")

    owner: Owner


class FieldChange(BaseModel):
    """One field that is not as it should be."""

    field: str
    before: Any
    after: Any
    is_drift: Annotated[
        bool, Field(description="It was as it should be when this owner applied last: somebody changed it since.")
    ] = False


class Change(BaseModel):
    """One thing to do. A key that is replaced ends at once; one that is renewed goes on for a day beside the next."""

    action: Action
    kind: Kind
    name: Annotated[str, Field(description="An address or a name; of a key, its owner's, a slash, and its own.")]
    fields: list[FieldChange]
    changed_by: Annotated[str | None, Field(description="Whose change made it drift, as far as is known.")] = None
    changed_at: datetime | None = None

    @property
    def destroys(self) -> bool:
        """Whether something is gone afterwards."""
        return self.action in {"replace", "delete"}


class Plan(BaseModel):
    """What it takes to get to a state."""

    owner: str
    changes: Annotated[list[Change], Field(description="In the order in which they are made.")]
    unchanged: Annotated[int, Field(description="How many of those that the state names are as they should be.")]
    taken_over: Annotated[list[str], Field(description="What was in another owner's state, and is in this one's then.")]
    released: Annotated[
        list[str],
        Field(
            description="What it names no longer, and is left: it was there before, or it or a key of it is another's."
        ),
    ]
    digest: Annotated[str, Field(description="Of the changes: `plan` of an apply that does these or none.")]

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.changes or self.taken_over or self.released)


class IssuedKey(BaseModel):
    """The text of a new API key, which is shown this once."""

    id: UUID
    user: str
    name: str
    key: str


class Applied(Plan):
    """What was done, and the API keys that were made."""

    keys: list[IssuedKey]
