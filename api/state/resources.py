"""What is desired beside what is there: pure functions, no clock and no database."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.api_keys.models import ApiKey
from api.api_keys.schemas import ApiKeyTerms
from api.core.errors import FieldError, InvalidInput
from api.roles.models import Role
from api.state.models import Ownership
from api.state.schemas import FieldChange, Kind, RoleState, ServiceAccountState, State, UserState
from api.users.models import User

Name = tuple[Kind, str]
Desired = RoleState | UserState | ServiceAccountState | ApiKeyTerms
# By what they are known, and not what they are like; a password is only for who is created.
NO_FIELDS = {"name", "email", "password", "api_keys"}


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing that a state names.

    Attributes:
        where: Its place in the state, as `users.0`.
        fields: What it should be like, as far as the state says.
        account: The name of a key's owner.
    """

    name: Name
    where: str
    fields: dict[str, Any]
    account: str = ""


def resources(state: State) -> list[Resource]:
    """Return everything that a state names: roles before who has them, accounts before their keys.

    Raises:
        InvalidInput: It names something twice.
    """
    roles = [resource("role", role.name, f"roles.{at}", role) for at, role in enumerate(state.roles)]
    people = [resource("user", user.email, f"users.{at}", user) for at, user in enumerate(state.users)]
    machines = [
        resource("service-account", account.name, f"service_accounts.{at}", account)
        for at, account in enumerate(state.service_accounts)
    ]
    accounts: list[tuple[Resource, UserState | ServiceAccountState]] = [
        *zip(people, state.users, strict=True),
        *zip(machines, state.service_accounts, strict=True),
    ]
    keys = [
        resource("api-key", f"{owner.name[1]}/{key.name}", f"{owner.where}.api_keys.{at}", key, account=owner.name[1])
        for owner, account in accounts
        for at, key in enumerate(account.api_keys or ())
    ]
    found = [*roles, *people, *machines, *keys]
    if len({resource.name for resource in found}) < len(found):
        times = Counter(resource.name for resource in found)
        errors = [
            FieldError(resource.where, f"{resource.name[0]} {resource.name[1]} is named more than once", "named-twice")
            for resource in found
            if times[resource.name] > 1
        ]
        raise InvalidInput.of_fields(errors)
    return found


def resource(kind: Kind, name: str, where: str, state: Desired, *, account: str = "") -> Resource:
    """Return one thing of a state; what is left out of it, or null, is not among its fields."""
    fields = state.model_dump(mode="json", exclude=NO_FIELDS)
    if kind != "api-key":
        # There, null says something: no end, and from everywhere.
        fields = {name: value for name, value in fields.items() if value is not None}
    return Resource((kind, name), where, fields, account)


def account_of(name: Name) -> Name:
    """Return the name of a key's account; of anything else, its own."""
    if name[0] != "api-key":
        return name
    account = name[1].partition("/")[0]
    return ("user" if "@" in account else "service-account", account)


def current(found: Role | User | ApiKey) -> dict[str, Any]:
    """Return the fields of what is there, as a state would write them."""
    if isinstance(found, Role):
        return {"description": found.description, "scopes": found.scopes}
    if isinstance(found, User):
        fields: dict[str, Any] = {"full_name": found.full_name, "is_active": found.is_active, "roles": found.roles}
        return fields if found.email is None else fields | {"is_superuser": found.is_superuser}
    life = None if found.expires_at is None else round((found.expires_at - found.created_at).total_seconds())
    networks = None if found.networks is None else sorted(found.networks)
    return {"scopes": found.scopes, "networks": networks, "expires_in": life}


def differing(desired: Mapping[str, Any], there: Mapping[str, Any], owned: Ownership | None) -> list[FieldChange]:
    """Return the fields that are not as they should be; those that once were have drifted."""
    applied = {} if owned is None else owned.applied
    return [
        FieldChange(field=field, before=there[field], after=value, is_drift=applied.get(field, ...) == value)
        for field, value in desired.items()
        if there[field] != value
    ]
