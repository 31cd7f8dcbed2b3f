"""Whose everything is that states name, as it is written down after one was applied."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys.models import ApiKey
from api.core.actor import ALL_SCOPES, Actor, Scope, scopes_named
from api.core.errors import MissingScope
from api.roles import crud as roles
from api.roles.models import Role
from api.state import crud
from api.state.executing import Made
from api.state.existing import Existing, named
from api.state.models import Ownership
from api.state.planning import Planned, is_asleep
from api.state.resources import Name, Resource
from api.users.models import User
from api.users.records import UserRecords

COLUMNS: Final = ("owner", "kind", "name", "target_id", "made_at", "applied")


@dataclass
class Owning:
    """What changes in the table of owners with one application of a state.

    Attributes:
        made: What the steps have made, by name; None for those that made nothing new.
    """

    session: AsyncSession
    actor: Actor
    existing: Existing
    planned: Planned
    made: Mapping[Name, Made | None]
    _entries: list[dict[str, Any]] = field(default_factory=list)
    _ended: list[Ownership] = field(default_factory=list)

    async def write(self, wanted: Iterable[Resource]) -> int:
        """Write down what is whose by now, strike out what is nobody's; returns how many rows.

        What is as it should be is its owner's too, if the actor could change it: nobody else's state deletes it then.

        Raises:
            MissingScope: A row would end, or be about somebody else, that is about more than the actor holds.
        """
        stated = {resource.name: resource for resource in wanted}
        taken: dict[Name, list[Ownership]] = {}
        for name, row in self.planned.taken_over:
            self._ended.append(row)
            if self.existing.is_about(name, row):
                taken.setdefault(name, []).append(row)
            else:
                await self._require_power_of(row)
        for resource in stated.values():
            await self._state(resource, stated, taken.get(resource.name, []))
        await self._strike_out(stated)
        await self._hand_over(stated)
        if self._ended:
            await crud.forget(self.session, self._ended)
        if self._entries:
            await crud.note(self.session, self._entries)
        return len(self._entries) + len(self._ended)

    async def _state(self, resource: Resource, stated: Mapping[Name, Resource], taken: list[Ownership]) -> None:
        """Write down what the state names; in the place of these rows of others, too."""
        name, own, said = resource.name, self.existing.own.get(resource.name), self.existing.said.get(resource.name)
        entry = self._entry(resource, [*([] if own is None else [own]), *taken])
        if own is not None and name not in self.made and is_asleep(resource, stated, self.existing):
            # It was not made what the state says now.
            entry["applied"] = own.applied
        if own is not None and all(getattr(own, column) == value for column, value in entry.items()):
            return
        found = self.existing.there.get(name)
        # What is not there, as a key of somebody deactivated, is nobody's yet.
        if name in self.made or (found is not None and await self._may_change(found)):
            if said is not None and said is not own:
                await self._require_power_of(said)
            self._entries.append(entry)
            if own is not None and named(own) != name:
                self._ended.append(own)
        elif taken:
            raise MissingScope(f"{name[0]} {name[1]}: whoever takes it over must be able to change it")

    def _entry(self, resource: Resource, rows: list[Ownership]) -> dict[str, Any]:
        """Return the row for what a state names, in the place of these rows, as it is after it was applied."""
        kind, name = resource.name
        # A key stays known by the first id that it had: what it was rotated to is found from there.
        target_id = rows[0].target_id if rows else getattr(self.existing.there.get(resource.name), "id", None)
        # The maker's, among those that it has from others.
        made_at = next((row.made_at for row in rows if row.made_at is not None), None)
        new = self.made.get(resource.name)
        if new is not None and not (new.is_renewal and made_at is not None):
            target_id, made_at = new.target_id, new.created_at
        values = (self.planned.owner, kind, name, target_id, made_at, resource.fields)
        return dict(zip(COLUMNS, values, strict=True))

    async def _strike_out(self, stated: Mapping[Name, Resource]) -> None:
        """End the rows about what the state names no longer, or by another name."""
        for name, _ in self.planned.released:
            if not await self._may_change(self.existing.there[name]):
                raise MissingScope(f"{name[0]} {name[1]}: whoever lets it go must be able to change it")
        self._ended += [row for name, row in self.existing.own.items() if name not in stated]
        for name, row in self.existing.lost.items():
            if name not in stated:
                await self._require_power_of(row)
                self._ended.append(row)

    async def _hand_over(self, stated: Mapping[Name, Resource]) -> None:
        """Have other owners' rows say what is theirs by now."""
        # What its maker names no longer, and another state does, is that one's.
        for name, row in self.existing.own.items():
            if name not in stated and row.made_at is not None:
                self._entries += [
                    copied(other, made_at=row.made_at) for other in self.existing.others.get(name, ())[:1]
                ]
        # What was made again is what they name: they have said it of the one before.
        ended = {id(row) for row in self._ended}
        for name, new in self.made.items():
            if new is None or new.is_renewal:
                continue
            for other in self.existing.of_others(name):
                if id(other) not in ended and await self._has_power_of(other):
                    self._entries.append(copied(other, target_id=new.target_id, made_at=None))

    async def _may_change(self, found: Role | User | ApiKey) -> bool:
        """Tell whether the actor could change this: whoever owns it keeps others from doing so."""
        if self.actor.scopes >= ALL_SCOPES:
            return True
        records = UserRecords(self.session, self.actor)
        try:
            if isinstance(found, Role):
                self.actor.require_power_over(scopes_named(found.scopes))
            elif isinstance(found, User):
                await records.require_power_over(found)
            else:
                self.actor.require(Scope.API_KEYS_WRITE)
                await records.require_power_over(await records.get(str(found.user_id)))
        except MissingScope:
            return False
        return True

    async def _has_power_of(self, row: Ownership) -> bool:
        """Tell whether the actor holds whatever a row gives to whoever it is about."""
        if self.actor.scopes >= ALL_SCOPES:
            return True
        given = await roles.scopes_by_role(self.session, row.applied.get("roles", ()))
        held = scopes_named([scope for scopes in given.values() for scope in scopes])
        return not row.applied.get("is_superuser") and self.actor.scopes >= held

    async def _require_power_of(self, row: Ownership) -> None:
        """Go on only if the actor could have had a state say this: it keeps others from being taken for who was meant.

        Raises:
            MissingScope: They could not.
        """
        if not await self._has_power_of(row):
            raise MissingScope(f"{row.kind} {row.name}: whoever lets it go must be able to do what it could")


def copied(row: Ownership, **values: Any) -> dict[str, Any]:
    """Return a row with other values."""
    return {column: getattr(row, column) for column in COLUMNS} | values
