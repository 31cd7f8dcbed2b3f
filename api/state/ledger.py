"""Whose everything is that states name, as it is written down when one was applied."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from api.core.errors import MissingScope
from api.state import crud
from api.state.executing import Made
from api.state.existing import Existing
from api.state.models import Ownership
from api.state.planning import Planned, is_asleep
from api.state.powers import Powers
from api.state.resources import Name, Resource

COLUMNS: Final = ("owner", "kind", "name", "target_id", "made_at", "applied")


@dataclass
class Ledger:
    """The rows that change with one application of a state.

    Attributes:
        made: What the steps have made, by name; None for those that made nothing new.
    """

    powers: Powers
    existing: Existing
    planned: Planned
    made: Mapping[Name, Made | None]
    _entries: list[dict[str, Any]] = field(default_factory=list)
    _ended: list[Ownership] = field(default_factory=list)

    async def write(self, session: AsyncSession, wanted: Mapping[Name, Resource]) -> int:
        """Write down what is whose by now, strike out what is nobody's; returns how many rows that takes.

        What is as it should be is its owner's too, if the actor could change it: nobody else's state deletes it then.

        Raises:
            MissingScope: The actor could not change what is taken over or let go; or a row would end, or be about
                something else, that gave more than they hold.
        """
        taken: dict[Name, list[Ownership]] = {}
        for name, row in self.planned.taken_over:
            await self.powers.require(row, deleting=True)
            self._ended.append(row)
            if self.existing.is_about(name, row):
                taken.setdefault(name, []).append(row)
        for resource in wanted.values():
            await self._state(resource, wanted, taken.get(resource.name, []))
        await self._let_go(wanted)
        await self._hand_over(wanted)
        # In this order: what comes may have the name of what goes.
        if self._ended:
            await crud.forget(session, self._ended)
        if self._entries:
            await crud.note(session, self._entries)
        return len(self._entries) + len(self._ended)

    async def _state(self, resource: Resource, wanted: Mapping[Name, Resource], taken: list[Ownership]) -> None:
        """Write down what the state names; in the place of these rows of others, too."""
        name, own, said = resource.name, self.existing.own.get(resource.name), self.existing.said.get(resource.name)
        entry = self._entry(resource, [*([] if own is None else [own]), *taken])
        if own is not None and name not in self.made and is_asleep(resource, wanted, self.existing):
            # It was not made what the state says now.
            entry["applied"] = own.applied
        if own is not None and all(getattr(own, column) == value for column, value in entry.items()):
            return
        found = self.existing.there.get(name)
        # What is not there, as a key of somebody deactivated, is nobody's yet.
        if name in self.made or (found is not None and await self.powers.may_change(found)):
            for row in (own, said):
                if row is not None:
                    await self.powers.require(row)
            self._entries.append(entry)
            if own is not None and own is not said:
                self._ended.append(own)
        elif taken:
            raise MissingScope(f"{name[0]} {name[1]}: whoever takes it over must be able to change it")

    def _entry(self, resource: Resource, rows: list[Ownership]) -> dict[str, Any]:
        """Return the row for what a state names, in the place of these rows, as it is after it was applied."""
        kind, name = resource.name
        found, new = self.existing.there.get(resource.name), self.made.get(resource.name)
        # Its maker knows the first id that a key had: what it was rotated to is found from there.
        known = next((row for row in rows if row.made_at is not None), rows[0] if rows else None)
        target_id, made_at = getattr(found, "id", None), None
        if known is not None:
            # To follow a rename is no way to have others delete what one may not.
            is_kept = known is self.existing.said.get(resource.name) or self.powers.may_delete(known)
            target_id, made_at = known.target_id, known.made_at if is_kept else None
        if new is not None and not (new.is_renewal and made_at is not None):
            target_id, made_at = new.target_id, new.created_at
        values = (self.planned.owner, kind, name, target_id, made_at, resource.fields)
        return dict(zip(COLUMNS, values, strict=True))

    async def _let_go(self, wanted: Mapping[Name, Resource]) -> None:
        """End the rows about what the state names no longer."""
        for name, _ in self.planned.released:
            if not await self.powers.may_change(self.existing.there[name]):
                raise MissingScope(f"{name[0]} {name[1]}: whoever lets it go must be able to change it")
        for name, row in (*self.existing.own.items(), *self.existing.lost.items()):
            if name not in wanted:
                await self.powers.require(row)
                self._ended.append(row)

    async def _hand_over(self, wanted: Mapping[Name, Resource]) -> None:
        """Have other owners' rows say what is theirs by now."""
        # What its maker names no longer, and another state does, is that one's.
        for name, row in self.existing.own.items():
            if name not in wanted and row.made_at is not None and self.powers.may_delete(row):
                first = self.existing.others.get(name, ())[:1]
                self._entries += [copied(other, made_at=row.made_at) for other in first]
        # What was made again is what they name: they have said it of the one before.
        ended = {id(row) for row in self._ended}
        for name, new in self.made.items():
            if new is None or new.is_renewal:
                continue
            for other in self.existing.of_others(name):
                if id(other) not in ended and await self.powers.holds(other):
                    self._entries.append(copied(other, target_id=new.target_id, made_at=None))


def copied(row: Ownership, **values: Any) -> dict[str, Any]:
    """Return a row with other values."""
    return {column: getattr(row, column) for column in COLUMNS} | values
