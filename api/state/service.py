"""The rules about states: what is planned, what is owned, and that applying twice changes nothing the second time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import crud as api_keys
from api.api_keys.models import ApiKey
from api.audit import crud as audit
from api.core.actor import Actor, Scope
from api.core.errors import ApictlError, BadRequest, Kind
from api.core.passwords import Passwords
from api.roles import crud as roles
from api.roles.models import Role
from api.state import crud
from api.state.differences import Name, Wish, current, differing, wishes
from api.state.making import Made, Maker, Step
from api.state.models import Ownership
from api.state.schemas import (
    MOST,
    Applied,
    ApplyOptions,
    Change,
    ExportStateOptions,
    FieldChange,
    Plan,
    PlanOptions,
    State,
)
from api.users import crud as users
from api.users.models import User

# What is removed, in this order: keys before their owners, and roles when nobody has them any more.
REMOVED = ("api-key", "user", "service-account", "role")


class OwnedByAnother(ApictlError):
    """Two states want the same thing to be different."""

    kind = Kind.CONFLICT
    code = "owned-by-another"
    title = "Another owner's state says otherwise"


class WouldDestroy(ApictlError):
    """Something would be gone afterwards, and nobody has said that it may."""

    kind = Kind.CONFLICT
    code = "would-destroy"
    title = "This would destroy something"


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is, by name, and whose it is."""

    there: dict[Name, Role | User | ApiKey]
    owned: dict[Name, Ownership]


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
            OwnedByAnother: Another owner's state says otherwise, and is not to be taken over.
        """
        wanted = wishes(state)
        steps = await self._steps(state.owner, wanted, await self._stock(state.owner, wanted), take_over=how.take_over)
        return planned(state, steps, wanted)

    async def apply(
        self, state: State, how: ApplyOptions, *, told: Callable[[int, int], None] = lambda *_: None
    ) -> Applied:
        """Make it so, all or nothing: by the services of each thing, with their rules and their audit entries.

        Args:
            state: What there should be.
            how: What is allowed to get there.
            told: Is called before each change, with how many were made, of how many.

        Raises:
            WouldDestroy: Something is to be deleted or replaced, and `how` does not say that it may.
            ApictlError: A service refused one of the changes.
        """
        self._actor.require(Scope.USERS_WRITE, Scope.ROLES_WRITE)
        await crud.take_turn(self._session)
        wanted = wishes(state)
        stock = await self._stock(state.owner, wanted)
        steps = await self._steps(state.owner, wanted, stock, take_over=how.take_over)
        plan = planned(state, steps, wanted)
        destroyed = [f"{change.kind} {change.name}" for change in plan.changes if change.destroys]
        if destroyed and not how.destroy:
            more = f" and {len(destroyed) - 3} more" if len(destroyed) > 3 else ""
            raise WouldDestroy(
                f"This would destroy {', '.join(destroyed[:3])}{more}",
                hint="look at the plan; then say that it may: --yes, or over HTTP destroy=true",
            )
        maker = Maker(self._session, self._actor, self._passwords)
        made: dict[Name, Made | None] = {}
        for step in steps:
            told(len(made), len(steps))
            made[step.change.kind, step.change.name] = await maker.make(step)
        await self._own(state.owner, wanted, stock, made)
        if steps:
            detail = {"owner": state.owner, "changes": len(steps)}
            await audit.add(
                self._session, self._actor, action="state.apply", target="state", target_id=None, detail=detail
            )
        return Applied(**dict(plan), keys=maker.keys)

    async def export_state(self, how: ExportStateOptions) -> State:
        """Return all there is, as a state for this owner: to plan it changes nothing.

        Raises:
            BadRequest: There is more than a state takes.
        """
        self._require_sight()
        defined = await roles.named(self._session, None, most=MOST + 1)
        accounts = await users.every(self._session, most=MOST + 1)
        if max(len(defined), len(accounts)) > MOST:
            raise BadRequest(
                f"There is more than the {MOST:,} of each kind that a state takes",
                hint="export-users has all people as a file",
            )
        keys: dict[object, dict[str, dict[str, Any]]] = {}
        for key in await api_keys.live_of(self._session, [user.id for user in accounts]):
            # Of two with one name the newer one, as when it is planned.
            keys.setdefault(key.user_id, {})[key.name] = {"name": key.name, **current(key)}
        shown = [
            {"email" if user.email else "name": user.handle, **current(user)}
            | ({"api_keys": [*keys[user.id].values()]} if user.id in keys else {})
            for user in accounts
        ]
        return State.model_validate(
            {
                "owner": how.owner,
                "roles": [{"name": role.name, **current(role)} for role in defined],
                "users": [account for account in shown if "email" in account],
                "service_accounts": [account for account in shown if "name" in account],
            }
        )

    def _require_sight(self) -> None:
        self._actor.require(Scope.USERS_READ, Scope.ROLES_READ, Scope.API_KEYS_READ)

    async def _stock(self, owner: str, wanted: list[Wish]) -> Stock:
        self._require_sight()
        named = {wish.name for wish in wanted}
        rows = await crud.ownerships(self._session, owner, {kind for kind, _ in named}, {name for _, name in named})
        owned: dict[Name, Ownership] = {(row.kind, row.name): row for row in rows}  # type: ignore[misc]  # as they were written
        names = named | {name for name, row in owned.items() if row.owner == owner}
        of_keys = {name.partition("/")[0] for kind, name in names if kind == "api-key"}
        handles = {name for kind, name in names if kind in {"user", "service-account"}} | of_keys
        defined = await roles.named(self._session, [name for kind, name in names if kind == "role"], most=len(names))
        accounts = await users.by_handles(
            self._session, [name for name in handles if "@" in name], [name for name in handles if "@" not in name]
        )
        there: dict[Name, Role | User | ApiKey] = {("role", role.name): role for role in defined}
        there |= {("service-account" if user.email is None else "user", user.handle): user for user in accounts}
        owners = {user.id: user.handle for user in accounts if user.handle in of_keys}
        for key in await api_keys.live_of(self._session, owners) if owners else ():
            there["api-key", f"{owners[key.user_id]}/{key.name}"] = key
        return Stock(there, owned)

    async def _steps(self, owner: str, wanted: list[Wish], stock: Stock, *, take_over: bool) -> list[Step]:
        steps: list[Step] = []
        for wish in wanted:
            found, owned = stock.there.get(wish.name), stock.owned.get(wish.name)
            if found is None:
                fields = [FieldChange(field=name, before=None, after=value) for name, value in wish.fields.items()]
                steps.append(Step(change("create", wish.name, fields), wish, None))
                continue
            is_own = owned is not None and owned.owner == owner
            fields = differing(wish.fields, current(found), owned if is_own else None)
            if not fields:
                continue
            if owned is not None and not is_own and not take_over:
                raise OwnedByAnother(
                    f"{wish.name[0]} {wish.name[1]} is in the state of {owned.owner}, which says otherwise",
                    hint="let one of the two name it, or take it over: --take-over, over HTTP take_over=true",
                )
            action = "replace" if isinstance(found, ApiKey) else "update"
            steps.append(Step(change(action, wish.name, fields), wish, found))
        steps.sort(key=lambda step: step.takes_power)
        steps += removals(owner, {wish.name for wish in wanted}, stock)
        await self._tell_drift(owner, steps, stock)
        return steps

    async def _tell_drift(self, owner: str, steps: Iterable[Step], stock: Stock) -> None:
        """Tell of each change that somebody else's makes necessary who that was."""
        drifted: list[tuple[Step, Ownership]] = []
        for step in steps:
            owned = stock.owned.get((step.change.kind, step.change.name))
            gone = step.found is None or isinstance(step.found, ApiKey)
            if owned is None or owned.owner != owner or step.wish is None:
                continue
            if gone or any(field.is_drift for field in step.change.fields):
                drifted.append((step, owned))
        if not drifted:
            return
        entries = await crud.last_changes(
            self._session,
            at=[step.found.updated_at for step, _ in drifted if isinstance(step.found, Role | User)],
            since=min((owned.applied_at for step, owned in drifted if step.found is None), default=None),
            target_ids=[owned.target_id for _, owned in drifted if owned.target_id is not None],
            roles=[step.change.name for step, _ in drifted if step.change.kind == "role"],
        )
        last = {entry.target_id or entry.detail.get("role"): entry for entry in entries}
        for step, owned in drifted:
            entry = last.get(owned.target_id or step.change.name)
            if entry is not None:
                step.change.changed_by, step.change.changed_at = f"{entry.actor} ({entry.door})", entry.at

    async def _own(self, owner: str, wanted: list[Wish], stock: Stock, made: dict[Name, Made | None]) -> None:
        """Write down whose everything is by now that the state names, and strike out what it names no longer."""
        rows = []
        for wish in wanted:
            found, owned, new = stock.there.get(wish.name), stock.owned.get(wish.name), made.get(wish.name)
            is_own = owned is not None and owned.owner == owner
            if owned is not None and not is_own and wish.name not in made:
                # As both want it.
                continue
            if is_own and wish.name not in made and owned is not None and owned.applied == wish.fields:
                continue
            target_id = new.target_id if new is not None else getattr(found, "id", None)
            made_at = new.created_at if new is not None else owned.made_at if is_own and owned is not None else None
            rows.append(
                {
                    "kind": wish.name[0],
                    "name": wish.name[1],
                    "owner": owner,
                    "target_id": target_id,
                    "made_at": made_at,
                    "applied": wish.fields,
                }
            )
        if rows:
            await crud.note(self._session, rows)
        names = {wish.name for wish in wanted}
        gone = [name for name, row in stock.owned.items() if row.owner == owner and name not in names]
        if gone:
            await crud.forget(self._session, owner, gone)


def removals(owner: str, names: set[Name], stock: Stock) -> list[Step]:
    """Return the steps for what the owner made and no longer names."""
    found = []
    for name, row in stock.owned.items():
        there = stock.there.get(name)
        if row.owner != owner or name in names or there is None or row.made_at != there.created_at:
            continue
        found.append(Step(change("delete", name, []), None, there))
    accounts = {step.change.name for step in found if step.change.kind != "api-key"}
    # The keys of whoever is deleted go with them.
    left = [
        step for step in found if step.change.kind != "api-key" or step.change.name.partition("/")[0] not in accounts
    ]
    return sorted(left, key=lambda step: (REMOVED.index(step.change.kind), step.change.name))


def change(action: Any, name: Name, fields: list[FieldChange]) -> Change:
    """Return a change of one thing."""
    return Change(action=action, kind=name[0], name=name[1], fields=fields)


def planned(state: State, steps: list[Step], wanted: list[Wish]) -> Plan:
    """Return a plan as both doors show it."""
    touched = sum(step.wish is not None for step in steps)
    return Plan(owner=state.owner, changes=[step.change for step in steps], unchanged=len(wanted) - touched)
