"""How each change of a plan is made: by the services that everybody else uses, so that every rule of theirs holds."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys.models import ApiKey
from api.api_keys.schemas import ApiKeyCreate, ApiKeyTerms
from api.api_keys.service import ApiKeyService
from api.core.actor import Actor
from api.core.passwords import Passwords
from api.roles.models import Role
from api.roles.schemas import RoleCreate, RoleUpdate
from api.roles.service import RoleService
from api.service_accounts.schemas import ServiceAccountCreate
from api.service_accounts.service import ServiceAccountService
from api.state.differences import Wish
from api.state.schemas import Change, IssuedKey, UserState
from api.users.models import User
from api.users.schemas import UserCreate, UserUpdate
from api.users.service import UserService


@dataclass(frozen=True, slots=True)
class Step:
    """A change, what was wished for (None: that it is gone), and what is there (None: nothing)."""

    change: Change
    wish: Wish | None
    found: Role | User | ApiKey | None

    @property
    def takes_power(self) -> bool:
        """Whether somebody may do less afterwards: others must be able to, before."""
        return self.found is not None and any(
            change.field in {"is_active", "is_superuser"} and not change.after for change in self.change.fields
        )


@dataclass(frozen=True, slots=True)
class Made:
    """What a step has made: its id, if it has one, and when."""

    target_id: UUID | None
    created_at: datetime


@dataclass
class Maker:
    """Makes the steps of a plan, one after another, in one transaction."""

    session: AsyncSession
    actor: Actor
    passwords: Passwords
    keys: list[IssuedKey] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._users = UserService(self.session, self.actor, self.passwords)
        self._machines = ServiceAccountService(self.session, self.actor)
        self._roles = RoleService(self.session, self.actor)
        self._api_keys = ApiKeyService(self.session, self.actor)

    async def make(self, step: Step) -> Made | None:
        """Make a step; returns what there is new.

        Raises:
            ApictlError: A service refused it, as it would have refused its own caller.
        """
        if step.wish is None:
            await self._remove(step.change.name, step.found)
            return None
        if step.change.kind == "role":
            return await self._role(step, step.wish)
        if step.change.kind == "api-key":
            return await self._key(step.wish, step.found)
        return await self._account(step, step.wish)

    async def _remove(self, name: str, found: Any) -> None:
        if isinstance(found, Role):
            await self._roles.delete_role(name)
        elif isinstance(found, User):
            await self._users.delete_user(str(found.id))
        else:
            await self._api_keys.revoke_api_key(found.id)

    async def _role(self, step: Step, wish: Wish) -> Made | None:
        if step.found is None:
            role = await self._roles.create_role(RoleCreate(name=wish.name[1], **wish.fields))
            return Made(None, role.created_at)
        await self._roles.update_role(wish.name[1], RoleUpdate(**changed(step)))
        return None

    async def _key(self, wish: Wish, found: Any) -> Made:
        issued = await self._api_keys.create_api_key(
            ApiKeyCreate(user=wish.account, **ApiKeyTerms.model_validate(wish.state).model_dump())
        )
        if found is not None:
            await self._api_keys.revoke_api_key(found.id)
        self.keys.append(IssuedKey(id=issued.id, user=issued.user, name=issued.name, key=issued.key))
        return Made(issued.id, issued.created_at)

    async def _account(self, step: Step, wish: Wish) -> Made | None:
        name = wish.name[1]
        values = changed(step)
        made = None
        if step.found is None:
            made = await self._new_account(wish)
            held: list[str] = []
        else:
            assert isinstance(step.found, User)  # noqa: S101 - by its kind
            held = step.found.roles
            if "full_name" in values:
                await self._users.update_user(name, UserUpdate(full_name=values["full_name"]))
            if "is_superuser" in values:
                await (self._users.promote_user if values["is_superuser"] else self._users.demote_user)(name)
        for role in values.get("roles", held):
            if role not in held:
                await self._roles.grant_role(name, role)
        for role in held:
            if role not in values.get("roles", held):
                await self._roles.revoke_role(name, role)
        # At the end: who is deactivated keeps no powers to look at.
        if "is_active" in values:
            await (self._users.activate_user if values["is_active"] else self._users.deactivate_user)(name)
        return made

    async def _new_account(self, wish: Wish) -> Made:
        full_name = wish.fields.get("full_name", "")
        if isinstance(wish.state, UserState):
            new = UserCreate(email=wish.state.email, full_name=full_name, password=wish.state.password)
            outcome = await self._users.create_user(new, is_superuser=bool(wish.state.is_superuser))
        else:
            machine = ServiceAccountCreate(name=wish.name[1], full_name=full_name)
            outcome = await self._machines.create_service_account(machine)
        return Made(outcome.user.id, outcome.user.created_at)


def changed(step: Step) -> dict[str, Any]:
    """Return the fields that a step changes, as they are afterwards."""
    return {change.field: change.after for change in step.change.fields}
