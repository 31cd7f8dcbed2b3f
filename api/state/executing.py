"""How each change of a plan is made: by the services that everybody else uses, so that every rule of theirs holds."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys.models import ApiKey
from api.api_keys.schemas import DEFAULT_OVERLAP, ApiKeyCreate
from api.api_keys.service import ApiKeyService
from api.core.actor import Actor
from api.core.errors import ApictlError
from api.core.passwords import Passwords
from api.roles.models import Role
from api.roles.schemas import RoleCreate, RoleUpdate
from api.roles.service import RoleService
from api.service_accounts.schemas import ServiceAccountCreate
from api.service_accounts.service import ServiceAccountService
from api.state.existing import Existing
from api.state.planning import Step
from api.state.resources import Name, Resource
from api.state.schemas import IssuedKey
from api.users.models import User
from api.users.schemas import UserCreate, UserUpdate
from api.users.service import UserService


@dataclass(frozen=True, slots=True)
class Made:
    """What a step has made: its id, and when; or that it is the next of a key."""

    target_id: UUID
    created_at: datetime
    is_renewal: bool = False


@dataclass
class Executor:
    """Makes the changes of a plan, one after another, in one transaction.

    Attributes:
        hashes: Of the passwords of those who are created, by their addresses.
        keys: The API keys that were made.
    """

    session: AsyncSession
    actor: Actor
    passwords: Passwords
    existing: Existing
    hashes: Mapping[str, str]
    keys: list[IssuedKey] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._users = UserService(self.session, self.actor, self.passwords)
        self._machines = ServiceAccountService(self.session, self.actor)
        self._roles = RoleService(self.session, self.actor)
        self._api_keys = ApiKeyService(self.session, self.actor)
        # Done last: the last superuser can hand over, and keys are made while their owners may still have them.
        self._later: list[tuple[Step, Callable[[str], Awaitable[object]], str]] = []

    async def make(self, step: Step) -> Made | None:
        """Make a change; returns what there is new.

        Raises:
            ApictlError: A service refused it, as it would have refused its own caller; it says what it is about.
        """
        with told_of(step.name):
            if step.resource is None:
                await self._delete(step)
                return None
            if step.change.kind == "role":
                return await self._role(step, step.resource)
            if step.change.kind == "api-key":
                return await self._key(step, step.resource)
            return await self._account(step, step.resource)

    async def finish(self) -> None:
        """Demote and deactivate those who are to be.

        Raises:
            ApictlError: As `make`.
        """
        for step, weaken, ref in self._later:
            with told_of(step.name):
                await weaken(ref)

    async def _delete(self, step: Step) -> None:
        if isinstance(step.found, Role):
            await self._roles.delete_role(step.found.name)
        elif isinstance(step.found, User):
            await self._users.delete_user(str(step.found.id))
        else:
            await self._revoke(step)

    async def _revoke(self, step: Step) -> None:
        """End a key, and what still works of what it was before it was rotated."""
        for key in self.existing.live[step.name]:
            await self._api_keys.revoke_api_key(key.id)

    async def _role(self, step: Step, resource: Resource) -> Made | None:
        if step.found is None:
            role = await self._roles.create_role(RoleCreate(name=resource.name[1], **resource.fields))
            return Made(role.id, role.created_at)
        await self._roles.update_role(resource.name[1], RoleUpdate(**changed(step)))
        return None

    async def _key(self, step: Step, resource: Resource) -> Made:
        if isinstance(step.found, ApiKey) and step.change.action == "renew":
            issued = await self._api_keys.rotate_api_key(step.found.id, overlap=DEFAULT_OVERLAP)
        else:
            new = ApiKeyCreate(user=resource.account, name=resource.name[1].partition("/")[2], **resource.fields)
            issued = await self._api_keys.create_api_key(new)
            if step.found is not None:
                await self._revoke(step)
        self.keys.append(IssuedKey(id=issued.id, user=issued.user, name=issued.name, key=issued.key))
        return Made(issued.id, issued.created_at, is_renewal=step.change.action == "renew")

    async def _account(self, step: Step, resource: Resource) -> Made | None:
        values = changed(step)
        if isinstance(step.found, User):
            made, ref, held = None, str(step.found.id), [*step.found.roles]
            if "full_name" in values:
                await self._users.update_user(ref, UserUpdate(full_name=values["full_name"]))
            if values.get("is_superuser"):
                await self._users.promote_user(ref)
            if values.get("is_active"):
                await self._users.activate_user(ref)
            if values.get("is_superuser") is False:
                self._later.append((step, self._users.demote_user, ref))
        else:
            made, held = await self._new_account(resource), []
            ref = str(made.target_id)
        if values.get("is_active") is False:
            self._later.append((step, self._users.deactivate_user, ref))
        wanted = values.get("roles", held)
        for role in [role for role in wanted if role not in held]:
            await self._roles.grant_role(ref, role)
        for role in [role for role in held if role not in wanted]:
            await self._roles.revoke_role(ref, role)
        return made

    async def _new_account(self, resource: Resource) -> Made:
        full_name = resource.fields.get("full_name", "")
        if resource.name[0] == "user":
            new = UserCreate(email=resource.name[1], full_name=full_name)
            outcome = await self._users.create_user(
                new, is_superuser=resource.fields.get("is_superuser", False), hashed=self.hashes.get(new.email)
            )
        else:
            machine = ServiceAccountCreate(name=resource.name[1], full_name=full_name)
            outcome = await self._machines.create_service_account(machine)
        return Made(outcome.user.id, outcome.user.created_at)


@contextmanager
def told_of(name: Name) -> Iterator[None]:
    """Have a failure say what it is about."""
    try:
        yield
    except ApictlError as error:
        error.detail = f"{name[0]} {name[1]}: {error.detail}"
        raise


def changed(step: Step) -> dict[str, Any]:
    """Return the fields that a step changes, as they are afterwards."""
    return {change.field: change.after for change in step.change.fields}
