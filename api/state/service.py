"""The rules about states: what is planned, what is owned, and that applying twice changes nothing the second time."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import crud as api_keys
from api.audit import crud as audit
from api.core.actor import Actor, Scope
from api.core.errors import ApictlError, BadRequest, Busy, InvalidInput, Kind
from api.core.passwords import Passwords
from api.roles import crud as roles
from api.state import crud
from api.state.drift import tell_drift
from api.state.executing import Executor, Made, told_of
from api.state.existing import own_keys, read
from api.state.ledger import Ledger
from api.state.planning import make_plan
from api.state.powers import Powers
from api.state.resources import Name, current, resources
from api.state.schemas import MOST, Applied, ApplyOptions, ExportStateOptions, Plan, PlanOptions, State, UserState
from api.users import crud as users
from api.users.records import UserRecords

# Seconds that another one's applying is waited for, and between two looks.
PATIENCE: Final = 60
POLL: Final = 0.1


class WouldDestroy(ApictlError):
    """Something would be gone afterwards, and nobody has said that it may."""

    kind = Kind.CONFLICT
    code = "would-destroy"
    title = "This would destroy something"


class StalePlan(ApictlError):
    """What is to be done is no longer what somebody has looked at."""

    kind = Kind.CONFLICT
    code = "stale-plan"
    title = "The plan is another one by now"
    default_hint = "look at it again: apictl plan"


class StateService:
    """Compares what there is with what there should be, and makes it so; one instance serves one call."""

    def __init__(self, session: AsyncSession, actor: Actor, passwords: Passwords) -> None:
        self._session = session
        self._actor = actor
        self._passwords = passwords

    async def plan(self, state: State, how: PlanOptions) -> Plan:
        """Return what it takes to get to a state; nothing changes.

        Raises:
            MissingScope: The actor may not see everything that a state can name.
            OwnedByAnother: A name means something else by now, or another owner's state says otherwise.
            InvalidInput: The state cannot be had.
        """
        self._require_sight()
        wanted = resources(state)
        existing = await read(self._session, state.owner, wanted, lock=False)
        planned = make_plan(state.owner, wanted, existing, take_over=how.take_over)
        plan = planned.plan()
        await tell_drift(self._session, planned.steps, existing)
        return plan

    async def apply(
        self, state: State, how: ApplyOptions, *, told: Callable[[int, int], None] = lambda *_: None
    ) -> Applied:
        """Make it so, all or nothing: by the services of each thing, with their rules and their audit entries.

        Args:
            state: What there should be.
            how: What is allowed to get there.
            told: Is called before each change, with how many were made, of how many.

        Raises:
            StalePlan: It is not the plan that `how` names.
            WouldDestroy: Something is to be deleted or replaced, and `how` does not say that it may.
            Busy: Another state is being applied all the time.
            MissingScope: The actor could not have had a state say what is to be let go, or taken over.
            ApictlError: As `plan`; or a service refused one of the changes.
        """
        self._require_sight()
        self._actor.require(Scope.USERS_WRITE, Scope.ROLES_WRITE)
        wanted = resources(state)
        hashes = await self._hashes(state.users)
        await self._lock()
        existing = await read(self._session, state.owner, wanted, lock=True)
        planned = make_plan(state.owner, wanted, existing, take_over=how.take_over)
        plan = planned.plan()
        if how.plan not in {None, plan.digest}:
            raise StalePlan
        require_allowed(plan, how)
        executor = Executor(self._session, self._actor, self._passwords, existing, hashes)
        made: dict[Name, Made | None] = {}
        for step in planned.steps:
            told(len(made), len(planned.steps))
            made[step.name] = await executor.make(step)
        await executor.finish()
        powers = Powers(self._session, self._actor)
        noted = await Ledger(powers, existing, planned, made).write(
            self._session, {resource.name: resource for resource in wanted}
        )
        if not plan.is_clean or noted:
            counts = {"changes": len(made), "noted": noted, "taken_over": plan.taken_over, "released": plan.released}
            detail = {"owner": state.owner, **counts}
            await audit.add(
                self._session, self._actor, action="state.apply", target="state", target_id=None, detail=detail
            )
        return Applied(**dict(plan), keys=executor.keys)

    async def export_state(self, how: ExportStateOptions) -> State:
        """Return all there is, as a state for this owner: to plan it changes nothing.

        Raises:
            BadRequest: There is more than a state takes.
        """
        self._require_sight()
        defined = await roles.every(self._session, most=MOST + 1)
        accounts = await users.every(self._session, most=MOST + 1)
        if max(len(defined), len(accounts)) > MOST:
            raise BadRequest(
                f"There is more than the {MOST:,} of each kind that a state takes",
                hint="export-users has all people as a file",
            )
        # Of two with one name the owner's, or else the newest, as when it is planned.
        live = [one.key for one in await api_keys.of_users(self._session, [user.id for user in accounts])]
        live = [key for key in live if key.successor_id is None]
        live += await own_keys(self._session, how.owner, accounts)
        keys: dict[UUID, dict[str, dict[str, Any]]] = {}
        for key in live:
            keys.setdefault(key.user_id, {})[key.name] = {"name": key.name, **current(key)}
        shown = [
            {"email" if user.email else "name": user.handle, **current(user)}
            | ({"api_keys": [*keys[user.id].values()]} if user.id in keys else {})
            for user in accounts
        ]
        content = {
            "owner": how.owner,
            "roles": [{"name": role.name, **current(role)} for role in defined],
            "users": [account for account in shown if "email" in account],
            "service_accounts": [account for account in shown if "name" in account],
        }
        try:
            return State.model_validate(content)
        except ValidationError as error:
            refused = InvalidInput.of(error.errors(include_input=False, include_context=False, include_url=False))
            raise BadRequest(
                "What there is cannot be written as a state", cause=refused.detail, hint="a state has its limits"
            ) from None

    def _require_sight(self) -> None:
        self._actor.require(Scope.USERS_READ, Scope.ROLES_READ, Scope.API_KEYS_READ)

    async def _hashes(self, people: Iterable[UserState]) -> dict[str, str]:
        """Return hashes of the passwords of those who are not there yet; no transaction is open then."""
        new = {user.email: user for user in people if user.password is not None}
        if not new:
            return {}
        for there in await users.by_handles(self._session, new, (), (), lock=False):
            new.pop(there.handle, None)
        # Nobody waits for a hash: no lock, no connection.
        await self._session.close()
        hashes = {}
        for email, user in new.items():
            with told_of(("user", email)):
                personal = [email, user.full_name or ""]
                hashes[email] = await self._passwords.hash(user.password or "", personal=personal)
        if hashes:
            await UserRecords(self._session, self._actor).require_still()
        return hashes

    async def _lock(self) -> None:
        """Wait until no other state is being applied; not inside of a statement, which may take only so long."""
        deadline = time.monotonic() + PATIENCE
        while not await crud.try_lock(self._session):
            if time.monotonic() > deadline:
                raise Busy("Another state is being applied")
            await asyncio.sleep(POLL)


def require_allowed(plan: Plan, how: ApplyOptions) -> None:
    """Go on only if nothing is destroyed, or somebody has said that it may.

    Raises:
        WouldDestroy: It is, and nobody has.
    """
    destroyed = [f"{change.kind} {change.name}" for change in plan.changes if change.destroys]
    if destroyed and not how.destroy:
        more = f" and {len(destroyed) - 3} more" if len(destroyed) > 3 else ""
        raise WouldDestroy(
            f"This would destroy {', '.join(destroyed[:3])}{more}",
            hint="look at the plan; then say that it may: --yes, or over HTTP destroy=true",
        )
