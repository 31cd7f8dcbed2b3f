"""Whether the audit log is whole: every entry as it was written, and every link where it was."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from api.audit import crud
from api.audit.chain import SIZE, digest, link_hash
from api.audit.schemas import AuditHead, AuditVerified
from api.core.errors import MAX_ERRORS, ApictlError, FieldError, Kind

# Links that are read at once: of an import, each has thousands of entries. And entries that are looked up at once.
LINKS: Final = 100
ENTRIES: Final = 1000


class AuditTampered(ApictlError):
    """Somebody has changed the audit log, by a way that no door has."""

    kind = Kind.CONFLICT
    code = "audit-tampered"
    title = "The audit log was changed"
    default_hint = "keep the database as it is, and compare it with a backup: apictl export-audit"


@dataclass(slots=True)
class Progress:
    """How far it is: entries; and bytes, of which nothing is known before."""

    rows: int = 0
    read: int = 0


@dataclass(slots=True)
class Verifier:
    """Looks through the log on one connection, whose transaction sees it as it was at one time.

    Attributes:
        kept: Hashes of links that must be there, by lane and number.
        progress: Told how far it is.
    """

    connection: AsyncConnection
    kept: dict[tuple[int, int], str]
    progress: Progress
    _heads: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    _waiting: list[tuple[UUID, bytes]] = field(default_factory=list)
    _links: int = 0
    _wrong: int = 0
    _errors: list[FieldError] = field(default_factory=list)

    async def verify(self) -> AuditVerified:
        """Return what a whole log has.

        Raises:
            AuditTampered: It is not whole; the failure names the places, so many at most, and says how many there are.
        """
        async for part in crud.links(self.connection, at_once=LINKS):
            for row in part:
                self._link(row)
            await self._look_up(ENTRIES)
        await self._look_up(1)
        for lane, n in self.kept:
            self._tell("cut-off", f"link {lane}/{n}", "it is gone: the log was cut off before it, or made anew")
        for name, problem in await crud.unguarded(self.connection):
            self._tell("unguarded", name, problem)
        async for entry_id in crud.unlinked(self.connection):
            self.progress.rows += 1
            self._tell("not-linked", f"entry {entry_id}", "it was inserted without its link, or its link is gone")
        if self._wrong:
            places = "place does" if self._wrong == 1 else "places do"
            first = "; ".join(f"{error['field']}: {error['message']}" for error in self._errors[:3])
            raise AuditTampered(f"{self._wrong} {places} not hold: {first}", errors=self._errors)
        heads = [AuditHead(lane=lane, n=n, hash=last.hex()) for lane, (n, last) in sorted(self._heads.items())]
        return AuditVerified(entries=self.progress.rows, links=self._links, heads=heads)

    def _link(self, row: Sequence[Any]) -> None:
        """Look at a link, and keep its entries to be looked at."""
        lane, n, entries, digests, found = row
        name = f"link {lane}/{n}"
        before, last = self._heads.get(lane, (0, b""))
        self._heads[lane] = (n, found or b"")
        self._links += 1
        # What no trigger of ours has written may be anything, and of any form.
        is_sound = (
            all(isinstance(value, bytes) for value in (digests, found))
            and all(isinstance(one, UUID) for one in entries or [None])
            and len(digests) == SIZE * len(entries)
        )
        if n != before + 1:
            gap = f"link {lane}/{before + 1}" + (f" to {n - 1}" if n > before + 2 else "")
            self._tell("link-missing", gap, f"what was written before {name} is gone")
        elif not is_sound or link_hash(last, lane, n, entries, digests) != found:
            self._tell("link-changed", name, "it does not follow from the one before it: one of both was changed")
        kept = self.kept.pop((lane, n), None)
        if kept is not None and (not is_sound or kept != found.hex()):
            self._tell("link-changed", name, "it is not the one that was there: the log was made anew")
        if is_sound:
            self._waiting += [
                (entry_id, digests[start : start + SIZE])
                for entry_id, start in zip(entries, range(0, len(digests), SIZE), strict=True)
            ]

    async def _look_up(self, enough: int) -> None:
        """Look at the entries that wait, while there are that many."""
        while len(self._waiting) >= enough:
            part, self._waiting = self._waiting[:ENTRIES], self._waiting[ENTRIES:]
            found = await crud.raw_entries(self.connection, [one for one, _ in part])
            rows = {row.id: row for row in found}
            self.progress.rows += len(found)
            # Without its primary key, or with a table that inherits from it, it can have two of one id.
            for entry_id, count in Counter(row.id for row in found).items():
                if count > 1:
                    self._tell("twice", f"entry {entry_id}", "it is there more than once")
            for entry_id, noted in part:
                self._entry(entry_id, noted, rows.get(entry_id))

    def _entry(self, entry_id: UUID, noted: bytes, row: Sequence[Any] | None) -> None:
        if row is None:
            self._tell("missing", f"entry {entry_id}", "it is gone")
        elif digest(row) != noted:
            self._tell("changed", f"entry {entry_id}", "it was changed")

    def _tell(self, code: str, what: str, message: str) -> None:
        self._wrong += 1
        if len(self._errors) < MAX_ERRORS:
            self._errors.append(FieldError(what, message, code))
