"""The rules about reading the audit log: who may, and that what is read is what was written."""

from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud
from api.audit.schemas import AuditFilter, AuditQuery, AuditRead, AuditSince, AuditVerified
from api.audit.verifying import Progress, Verifier
from api.core.actor import Actor, Scope
from api.core.failures import translated
from api.core.pagination import Cursor, cut
from api.core.runtime import Runtime
from api.users.records import UserRecords

# What a cursor calls the order of the log.
ORDER = "-noted_at"
# Entries of an export at once.
PAGE = 1000


class AuditService:
    """Lists, exports and verifies the audit log; one instance serves one call.

    Attributes:
        counts: How far a verification is.
    """

    def __init__(self, runtime: Runtime, actor: Actor) -> None:
        """Serve one call, in transactions of its own."""
        self._runtime = runtime
        self._actor = actor
        self.counts = Progress()

    async def list_audit(self, query: AuditQuery) -> tuple[list[AuditRead], str | None]:
        """Return a page of the log, the newest entries first, and the cursor of the next page or None.

        Raises:
            MissingScope: The actor may not read the log.
            BadRequest: The cursor is not of this list.
        """
        self._actor.require(Scope.AUDIT_READ)
        after = Cursor.decode(query.cursor, sort=ORDER)
        async with self._runtime.transaction(readonly=True) as session:
            actor_id = await self._user_id(session, query.actor)
            rows = await crud.newest(session, query, actor_id, limit=query.limit, after=after)
        rows, following = cut(rows, query.limit, lambda row: Cursor(ORDER, row.at, row.id))
        return [AuditRead.model_validate(row) for row in rows], following

    async def export_audit(self, which: AuditFilter) -> AsyncIterator[bytes]:
        """Return the log as JSONL, an entry a line as `list_audit` shows it, the oldest first.

        Each page is read by itself: what is written meanwhile may be in it or not.

        Raises:
            MissingScope: The actor may not read the log.
        """
        self._actor.require(Scope.AUDIT_READ)
        return self._exported(which)

    async def _exported(self, which: AuditFilter) -> AsyncIterator[bytes]:
        async with self._runtime.transaction(readonly=True) as session:
            actor_id = await self._user_id(session, which.actor)
        after = None
        while True:
            async with self._runtime.transaction(readonly=True) as session:
                rows = await crud.oldest(session, which, actor_id, limit=PAGE, after=after)
            if rows:
                yield b"".join(AuditRead.model_validate(row).model_dump_json().encode() + b"\n" for row in rows)
            if len(rows) < PAGE:
                return
            after = Cursor(ORDER, rows[-1].at, rows[-1].id)

    async def verify_audit(self, since: AuditSince) -> AuditVerified:
        """Look whether the log is whole: that no entry was changed, deleted or slipped in since it was written.

        Who owns the database can make all of it anew, or cut off its end. That is found by an earlier answer, kept
        where they cannot write: what its heads name must be there still.

        Raises:
            MissingScope: The actor may not read the log.
            Busy: This process looks through it for others already.
            AuditTampered: It is not whole; the failure names the places.
        """
        self._actor.require(Scope.AUDIT_READ)
        kept = {(head.lane, head.n): head.hash for head in since.heads}
        # One picture of it all, while others go on writing; and to look through millions takes as long as it takes.
        how = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with translated():
            async with (
                self._runtime.turnstile.pass_through("audit"),
                self._runtime.patient_engine() as engine,
                engine.connect() as connection,
            ):
                return await Verifier(await connection.execution_options(**how), kept, self.counts).verify()

    async def _user_id(self, session: AsyncSession, ref: str | None) -> UUID | None:
        """Return the id of the user whom a filter names; None if it is nobody who is, or was, a user."""
        if ref is None:
            return None
        user = await UserRecords(session, self._actor).find(ref)
        if user is not None:
            return user.id
        try:
            return UUID(ref)
        except ValueError:
            return None
