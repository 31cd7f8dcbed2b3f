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
from api.users.records import UserNotFound, UserRecords

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
            UserNotFound: There is no account with the address or name that it was done to.
        """
        self._actor.require(Scope.AUDIT_READ)
        after = Cursor.decode(query.cursor, sort=ORDER)
        async with self._runtime.transaction(readonly=True) as session:
            named = await self._named(session, query)
            rows = await crud.newest(session, query, named, limit=query.limit, after=after)
        rows, following = cut(rows, query.limit, lambda row: Cursor(ORDER, row.at, row.id))
        return [AuditRead.model_validate(row) for row in rows], following

    async def export_audit(self, which: AuditFilter) -> AsyncIterator[bytes]:
        """Return the log as JSONL, an entry a line as `list_audit` shows it, the oldest first.

        Each page is read by itself: what is written meanwhile may be in it or not.

        Raises:
            MissingScope: The actor may not read the log.
            UserNotFound: There is no account with the address or name that it was done to.
        """
        self._actor.require(Scope.AUDIT_READ)
        async with self._runtime.transaction(readonly=True) as session:
            named = await self._named(session, which)
        return self._exported(which, named)

    async def _exported(self, which: AuditFilter, named: crud.Named) -> AsyncIterator[bytes]:
        after = None
        while True:
            async with self._runtime.transaction(readonly=True) as session:
                rows = await crud.oldest(session, which, named, limit=PAGE, after=after)
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

    async def _named(self, session: AsyncSession, which: AuditFilter) -> crud.Named:
        """Return the ids of what a filter names. An actor may be nobody who is, or was, a user.

        Raises:
            UserNotFound: What it was done to is none.
        """
        # Whoever has no credentials is called so, whatever an account is called.
        actor_id = None
        if which.actor is not None and which.actor != "nobody":
            actor_id = await self._id_of(session, which.actor)
        target_id = None if which.target_id is None else await self._id_of(session, which.target_id)
        if target_id is None and which.target_id is not None:
            raise UserNotFound(
                f"There is no user {which.target_id}", hint="whoever was deleted, and all else, is found by its id"
            )
        return crud.Named(actor_id, target_id)

    async def _id_of(self, session: AsyncSession, ref: str) -> UUID | None:
        """Return the id that this is, or that the user has who is called this."""
        try:
            return UUID(ref)
        except ValueError:
            user = await UserRecords(session, self._actor).find(ref)
            return None if user is None else user.id
