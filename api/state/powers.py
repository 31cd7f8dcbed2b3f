"""What an actor could do to what a state names: whoever may not owns nothing of it, and lets nothing of it go."""

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys.models import ApiKey
from api.core.actor import ALL_SCOPES, Actor, Scope, scopes_named
from api.core.errors import MissingScope
from api.roles import crud as roles
from api.roles.models import Role
from api.state import crud
from api.state.models import Ownership
from api.users.models import User
from api.users.records import UserRecords

# What it takes to delete one, beside power over it.
DELETING = {
    "role": Scope.ROLES_WRITE,
    "user": Scope.USERS_DELETE,
    "service-account": Scope.USERS_DELETE,
    "api-key": Scope.API_KEYS_WRITE,
}


class Powers:
    """What one actor could do."""

    def __init__(self, session: AsyncSession, actor: Actor) -> None:
        self._session = session
        self._actor = actor
        self._records = UserRecords(session, actor)

    async def may_change(self, found: Role | User | ApiKey) -> bool:
        """Tell whether the actor could change this: whoever owns it keeps others from doing so."""
        try:
            if isinstance(found, Role):
                self._actor.require_power_over(scopes_named(found.scopes))
            elif isinstance(found, User):
                await self._require_over(found)
            else:
                self._actor.require(Scope.API_KEYS_WRITE)
                await self._require_over(await self._records.get(str(found.user_id)))
        except MissingScope:
            return False
        return True

    def may_delete(self, row: Ownership) -> bool:
        """Tell whether the actor may delete things of this kind: else no state gets to by what they do."""
        return self._actor.may(DELETING[row.kind])

    async def holds(self, row: Ownership) -> bool:
        """Tell whether the actor holds whatever a row says that somebody has, as far as that can be told."""
        if self._actor.scopes >= ALL_SCOPES:
            return True
        names = row.applied.get("roles", ())
        given = await roles.scopes_by_role(self._session, names) if names else {}
        is_known = len(given) == len(names) and not (names and await crud.says_of_others(self._session, names))
        scopes = {*row.applied.get("scopes", ()), *(scope for held in given.values() for scope in held)}
        return is_known and not row.applied.get("is_superuser") and self._actor.scopes >= scopes_named(scopes)

    async def require(self, row: Ownership, *, deleting: bool = False) -> None:
        """Go on only if the actor could have had a state say this: it keeps others from being taken for who was meant.

        Raises:
            MissingScope: They could not; or not delete it, which whoever has it may.
        """
        if deleting:
            self._actor.require(DELETING[row.kind])
        if not await self.holds(row):
            raise MissingScope(
                f"{row.kind} {row.name}: the state of {row.owner} gave it more than you hold, or a role that is gone",
                hint="have it applied by somebody with every scope",
            )

    async def _require_over(self, user: User) -> None:
        # A superuser need not be asked for their powers.
        if not self._actor.scopes >= ALL_SCOPES:
            await self._records.require_power_over(user)
