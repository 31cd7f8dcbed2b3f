"""The rules about files of users: who may import and export, and what becomes of each row."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud as audit
from api.bulk import crud
from api.bulk.reading import NewUser, Reader, Refused, Row, RowRefused
from api.bulk.schemas import MOST_ERRORS, ExportOptions, ImportOptions, ImportReport, RowError, RowResult
from api.bulk.writing import written
from api.core.actor import ALL_SCOPES, Actor, Scope, scopes_named
from api.core.errors import ApictlError, BadRequest
from api.core.ids import uuid7
from api.core.runtime import Runtime
from api.roles import crud as roles
from api.users.records import UserRecords

# Rows that are merged at once, in a transaction of their own unless all are in one; and rows of an export at once.
BATCH: Final = 5000
PAGE: Final = 1000
# Batches that are merged at once: more would only wait for each other.
AT_ONCE: Final = 2
# Each row, the id of the user that was made of it, and why none was.
Results = list[tuple[Row, UUID | None, RowRefused | None]]
TAKEN: Final = RowRefused("email", "the address belongs to a user already", "email-taken")


@dataclass(slots=True)
class Counts:
    """What became of the rows so far.

    Attributes:
        read: Bytes of the file that were read.
    """

    rows: int = 0
    created: int = 0
    unchanged: int = 0
    failed: int = 0
    read: int = 0
    errors: list[RowError] = field(default_factory=list)


class BulkService:
    """Imports and exports people; one instance serves one call."""

    def __init__(self, runtime: Runtime, actor: Actor) -> None:
        """Serve one call, in transactions of its own."""
        self._runtime = runtime
        self._actor = actor
        self.counts = Counts()
        self._told: Callable[[RowResult], None] | None = None
        self._if_exists = "skip"
        self._together = False

    async def import_users(
        self,
        pieces: AsyncIterator[bytes],
        how: ImportOptions,
        *,
        told: Callable[[RowResult], None] | None = None,
    ) -> ImportReport:
        """Create a user for each row of a file.

        A row that is refused stops no other, unless `how` says so. What is imported is committed every few thousand
        rows, so that the same file can be imported again after an interruption: who is there already is left as they
        are.

        Args:
            pieces: The file.
            how: What to do with rows that cannot be imported as they are.
            told: Is called with the result of each row.

        Raises:
            MissingScope: The actor may not create users.
            BadRequest: It is no such file; what is before the place that the failure names may be imported.
        """
        self._actor.require(Scope.USERS_WRITE)
        self._told, self._if_exists = told, how.if_exists
        self._together = how.atomic or how.dry_run
        counts = self.counts
        reader = Reader(how.format)
        # Before there is a transaction: who sends a request's body slowly keeps nobody else waiting.
        first = await anext(pieces, b"")
        # A few thousand rows may take longer than a statement of a request.
        async with self._runtime.patient_engine() as engine:
            self._runtime = replace(self._runtime, engine=engine)
            await self._import(first, pieces, reader, how)
            if counts.created >= BATCH and not how.dry_run:
                # What is imported is imported, whatever comes of this.
                with suppress(ApictlError):
                    async with self._runtime.transaction() as session:
                        await crud.look_again(session)
        return ImportReport(
            rows=counts.rows,
            created=counts.created,
            unchanged=counts.unchanged,
            failed=counts.failed,
            errors=counts.errors,
            changed=counts.created > 0,
            dry_run=how.dry_run,
        )

    async def _import(self, first: bytes, pieces: AsyncIterator[bytes], reader: Reader, how: ImportOptions) -> None:
        counts = self.counts
        async with AsyncExitStack() as stack:
            session = None
            if self._together:
                session = await stack.enter_async_context(self._runtime.transaction(rollback=how.dry_run))
                await crud.take_turn(session, alone=True)
            merging: deque[asyncio.Task[Results]] = deque()
            try:
                async for batch in batches(first, pieces, reader, counts):
                    # The database works while the next rows are read.
                    await self._settle(merging, (1 if self._together else AT_ONCE) - 1)
                    merging.append(asyncio.create_task(self._store(batch, session)))
                await self._settle(merging, 0)
            except BadRequest as error:
                # Of the file: what is before the place is imported, unless all are in one transaction.
                await self._settle(merging, 0)
                done = 0 if self._together else counts.created
                raise BadRequest(error.detail, cause=f"{done} users were created", hint=error.hint) from None
            finally:
                for task in merging:
                    task.cancel()
                await asyncio.gather(*merging, return_exceptions=True)
            if session is not None and how.atomic and counts.failed:
                await session.rollback()
                counts.created = 0

    async def _settle(self, merging: "deque[asyncio.Task[Results]]", most: int) -> None:
        """Wait until no more than so many batches are under way, and count what became of the others."""
        while len(merging) > most:
            self._count(await merging[0])
            merging.popleft()

    async def _store(self, batch: list[Row], session: AsyncSession | None) -> Results:
        if session is not None:
            return await self._merged(batch, session)
        async with self._runtime.transaction() as own:
            await crud.take_turn(own, alone=False)
            return await self._merged(batch, own)

    async def _merged(self, batch: list[Row], session: AsyncSession) -> Results:
        # Meanwhile somebody may have ended the session, or taken what it could do.
        await UserRecords(session, self._actor).require_still()
        names = {name for row in batch if isinstance(row, NewUser) for name in row.roles}
        scopes = await roles.scopes_by_role(session, names, keep=True) if names else {}
        results: Results = []
        records = []
        for row in batch:
            why = row.why if isinstance(row, Refused) else self._refusal(row, scopes)
            user_id = None
            if isinstance(row, NewUser) and why is None:
                user_id = uuid7()
                records.append((user_id, *row))
            results.append((row, user_id, why))
        if not records:
            return results
        left_out = await crud.insert_users(
            session,
            records,
            actor=self._actor.name,
            actor_user_id=self._actor.user_id,
            api_key_id=self._actor.api_key_id,
            door=self._actor.door,
            request_id=self._actor.request_id,
        )
        if not left_out:
            return results
        why = TAKEN if self._if_exists == "fail" else None
        return [(row, None, why) if user_id in left_out else (row, user_id, was) for row, user_id, was in results]

    def _refusal(self, row: NewUser, scopes: dict[str, list[str]]) -> RowRefused | None:
        """Return why the actor may not create this user; None if they may."""
        if row.is_superuser and not self._actor.scopes >= ALL_SCOPES:
            return RowRefused("is_superuser", "only whoever may do everything makes superusers", "missing-scope")
        if (row.email_verified_at or row.created_at) and not self._actor.scopes >= ALL_SCOPES:
            name = "email_verified_at" if row.email_verified_at else "created_at"
            return RowRefused(name, "only whoever may do everything says when something was", "missing-scope")
        for name in row.roles:
            if name not in scopes:
                return RowRefused("roles", f"there is no role {name}", "role-not-found")
            if not self._actor.scopes >= scopes_named(scopes[name]):
                return RowRefused("roles", f"the role {name} may do more than you may", "missing-scope")
        return None

    def _count(self, results: Results) -> None:
        counts = self.counts
        if self._told is None and all(user_id is not None for _, user_id, _ in results):
            counts.created += len(results)
            return
        for row, user_id, why in results:
            if why is not None:
                counts.failed += 1
                if len(counts.errors) < MOST_ERRORS:
                    counts.errors.append(
                        RowError(line=row.line, email=row.email, field=why.field, code=why.code, message=why.message)
                    )
            elif user_id is not None:
                counts.created += 1
            else:
                counts.unchanged += 1
            if self._told is not None:
                self._told(result_of(row, user_id, why, is_certain=not self._together))

    async def export_users(self, how: ExportOptions) -> AsyncIterator[bytes]:
        """Return a file of all people, as `import_users` reads it, in the order of their addresses.

        Each page is read by itself: who is added or deleted meanwhile may be in it or not.

        Raises:
            MissingScope: The actor may not see users; or not do everything, where they ask for hashes.
        """
        self._actor.require(Scope.USERS_READ)
        if how.with_hashes:
            # Whoever has a hash may find the password, and be its owner.
            self._actor.require_power_over(ALL_SCOPES)
            async with self._runtime.transaction() as session:
                await audit.add(session, self._actor, action="user.export", target="user", target_id=None, detail={})
        return self._exported(how)

    async def _exported(self, how: ExportOptions) -> AsyncIterator[bytes]:
        email = ""
        yield written([], how, is_first=True)
        while True:
            async with self._runtime.transaction(readonly=True) as session:
                people = await crud.people_after(session, email, limit=PAGE)
            if people:
                yield written(people, how, is_first=False)
            if len(people) < PAGE:
                return
            email = people[-1].email or ""


def result_of(row: Row, user_id: UUID | None, why: RowRefused | None, *, is_certain: bool) -> RowResult:
    """Return what became of a row; what is not certain depends on the others."""
    if why is not None:
        return RowResult(
            line=row.line, email=row.email, status="failed", field=why.field, code=why.code, message=why.message
        )
    if user_id is None:
        return RowResult(line=row.line, email=row.email, status="unchanged")
    if not is_certain:
        return RowResult(line=row.line, email=row.email, status="accepted")
    return RowResult(line=row.line, email=row.email, status="created", id=user_id)


async def batches(
    first: bytes, pieces: AsyncIterator[bytes], reader: Reader, counts: Counts
) -> AsyncIterator[list[Row]]:
    """Yield the rows of a file, so many at once.

    Raises:
        BadRequest: It is no such file; what is before that place was yielded.
    """
    batch: list[Row] = []
    failure: BadRequest | None = None
    piece = first
    while failure is None:
        counts.read += len(piece)
        try:
            for row in reader.rows(piece, last=not piece):
                batch.append(row)
                counts.rows += 1
        except BadRequest as error:
            failure = error
        if len(batch) >= BATCH or (batch and (failure is not None or not piece)):
            yield batch
            batch = []
        if not piece:
            break
        piece = await anext(pieces, b"")
    if failure is not None:
        raise failure
