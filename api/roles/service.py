"""The rules about roles, who has one, and what it decides; the same behind both doors."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud as audit
from api.core.actor import Actor, Scope, scopes_named
from api.core.errors import ApictlError, Kind, StaleVersion
from api.core.pagination import Cursor, cut
from api.roles import crud
from api.roles.models import Role
from api.roles.schemas import Explanation, Question, RoleCreate, RoleQuery, RoleUpdate
from api.users.records import Outcome, UserRecords, powers_of


class RoleNotFound(ApictlError):
    """No such role."""

    kind = Kind.NOT_FOUND
    code = "role-not-found"
    title = "There is no such role"


class RoleExists(ApictlError):
    """Another role has the name."""

    kind = Kind.CONFLICT
    code = "role-exists"
    title = "There is a role of this name already"


class RoleInUse(ApictlError):
    """Somebody has the role."""

    kind = Kind.CONFLICT
    code = "role-in-use"
    title = "Somebody has this role"


@dataclass(frozen=True, slots=True)
class RoleOutcome:
    """A role after a command, and whether the command changed anything."""

    role: Role
    changed: bool


class RoleService:
    """Defines roles, grants them, and explains what they decide; one instance serves one call."""

    def __init__(self, session: AsyncSession, actor: Actor) -> None:
        self._session = session
        self._actor = actor
        self._users = UserRecords(session, actor)

    async def create_role(self, new: RoleCreate) -> Role:
        """Define a role.

        Raises:
            RoleExists: The name is taken.
            MissingScope: The actor lacks one of its scopes.
        """
        self._actor.require(Scope.ROLES_WRITE)
        self._actor.require_power_over(scopes_named(new.scopes))
        role = await crud.insert_unless_taken(self._session, **new.model_dump())
        if role is None:
            raise RoleExists(f"There is a role {new.name} already", hint=f"change it: apictl update-role {new.name}")
        await self._audit("role.create", role.name, scopes=role.scopes)
        return role

    async def get_role(self, name: str) -> Role:
        """Return a role.

        Raises:
            RoleNotFound: There is none of this name.
        """
        self._actor.require(Scope.ROLES_READ)
        return found(await crud.by_name(self._session, name), name)

    async def list_roles(self, query: RoleQuery) -> tuple[list[Role], str | None]:
        """Return a page of roles in the order of their names, and the cursor of the next page or None.

        Raises:
            BadRequest: The cursor is not of this list.
        """
        self._actor.require(Scope.ROLES_READ)
        after = Cursor.decode(query.cursor, sort="name")
        rows = await crud.page(self._session, limit=query.limit, after=after)
        # The name alone is unique: it needs no tie-breaker.
        return cut(rows, query.limit, lambda role: Cursor("name", role.name, UUID(int=0)))

    async def update_role(self, name: str, changes: RoleUpdate, *, if_version: int | None = None) -> RoleOutcome:
        """Change what a role is for, or its scopes: at once, for everybody who has it.

        Raises:
            RoleNotFound: There is none of this name.
            StaleVersion: The role is no longer at `if_version`.
            MissingScope: The actor lacks a scope that it has or would get.
        """
        self._actor.require(Scope.ROLES_WRITE)
        role = await self._lock(name, if_version=if_version)
        self._actor.require_power_over(scopes_named([*role.scopes, *(changes.scopes or ())]))
        given = changes.model_dump(exclude_unset=True, exclude_none=True)
        values = {key: value for key, value in given.items() if value != getattr(role, key)}
        if not values:
            return RoleOutcome(role, changed=False)
        await self._audit("role.update", name, **values)
        return RoleOutcome(await crud.change(self._session, name, **values), changed=True)

    async def delete_role(self, name: str, *, if_version: int | None = None) -> Role:
        """Delete a role that nobody has; returns it as it was.

        Raises:
            RoleNotFound: There is none of this name.
            RoleInUse: Somebody has it.
            StaleVersion: The role is no longer at `if_version`.
        """
        self._actor.require(Scope.ROLES_WRITE)
        role = await self._lock(name, if_version=if_version)
        self._actor.require_power_over(scopes_named(role.scopes))
        # Whoever grants it locks it too: nobody gets it between this look and the end of it.
        holders = await crud.holders(self._session, name)
        if holders:
            raise RoleInUse(
                f"{holders} user{'s have' if holders > 1 else ' has'} the role {name}",
                hint=f"see apictl list-users --role {name} and list-service-accounts --role {name}, and take it from "
                f"them: apictl revoke-role USER {name}",
            )
        await crud.remove(self._session, name)
        await self._audit("role.delete", name, scopes=role.scopes)
        return role

    async def grant_role(self, ref: str, name: str, *, if_version: int | None = None) -> Outcome:
        """Give a user a role: their live sessions can do more at once.

        Raises:
            UserNotFound: There is no such user.
            RoleNotFound: There is no such role.
            MissingScope: The actor lacks a scope of the role, or of the user.
        """
        self._actor.require(Scope.USERS_WRITE)
        role = await self._lock(name)
        self._actor.require_power_over(scopes_named(role.scopes))
        user = await self._users.lock(ref, if_version=if_version)
        await self._users.require_power_over(user)
        values = {} if name in user.roles else {"roles": sorted([*user.roles, name])}
        return await self._users.change("user.grant_role", user, {"role": name}, **values)

    async def revoke_role(self, ref: str, name: str, *, if_version: int | None = None) -> Outcome:
        """Take a role from a user: their live sessions can do less at once.

        Raises:
            UserNotFound: There is no such user.
            RoleNotFound: There is no such role.
            MissingScope: The actor lacks a scope of the user.
        """
        self._actor.require(Scope.USERS_WRITE)
        await self._lock(name)
        user = await self._users.lock(ref, if_version=if_version)
        await self._users.require_power_over(user)
        values = {"roles": [held for held in user.roles if held != name]} if name in user.roles else {}
        return await self._users.change("user.revoke_role", user, {"role": name}, **values)

    async def explain(self, question: Question) -> Explanation:
        """Return whether a user may do something, and the rule that decides, by the code that decides it.

        Raises:
            UserNotFound: There is no such user, or none that the actor may see.
            MissingScope: The actor came with a narrowed token, which tells who it is and no more.
        """
        user = await self._users.get(question.user)
        if self._actor.narrowed:
            self._actor.require(Scope.USERS_READ)
        decision = (await powers_of(self._session, user)).decide(question.can)
        return Explanation(
            user_id=user.id, user=user.handle, can=question.can, allowed=decision.allowed, rule=decision.rule
        )

    async def _lock(self, name: str, *, if_version: int | None = None) -> Role:
        role = found(await crud.by_name(self._session, name, lock=True), name)
        StaleVersion.check("The role", now=role.version, expected=if_version)
        return role

    async def _audit(self, action: str, name: str, **detail: Any) -> None:
        await audit.add(
            self._session, self._actor, action=action, target="role", target_id=None, detail={"role": name, **detail}
        )


def found(role: Role | None, name: str) -> Role:
    """Return the role that was looked for.

    Raises:
        RoleNotFound: It was not there.
    """
    if role is None:
        raise RoleNotFound(f"There is no role {name}", hint="apictl list-roles shows every role")
    return role
