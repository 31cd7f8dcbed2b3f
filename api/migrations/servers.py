"""A server says that it lives, and which revision its code was built for: whoever takes something away looks."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.core.errors import ApictlError
from api.core.ids import uuid7
from api.core.runtime import Runtime
from api.migrations import crud
from api.migrations.refusals import OlderServers
from api.migrations.revisions import Revision, chain, head

log: Final = logging.getLogger("apictl")
# Seconds; a third of what a server may be silent before it counts as gone.
BEAT: Final = crud.LIVES.total_seconds() / 3
# Seconds that a server that stops has for it.
FAREWELL: Final = 2.0


@asynccontextmanager
async def announced(runtime: Runtime) -> AsyncIterator[None]:
    """Have the database know of this process for the length of a `with` block, from before it serves."""
    server_id = uuid7()
    await note(runtime, server_id)
    beating = asyncio.create_task(beat(runtime, server_id))
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
        # Who is not forgotten now is so in a minute.
        with suppress(ApictlError, TimeoutError):
            async with asyncio.timeout(FAREWELL), runtime.transaction() as session:
                await crud.forget_server(session, server_id)


async def beat(runtime: Runtime, server_id: UUID) -> None:
    """Say so again and again."""
    while True:
        await asyncio.sleep(BEAT)
        await note(runtime, server_id)


async def note(runtime: Runtime, server_id: UUID) -> None:
    """Say that this process lives; where the database is away, or behind, the log has it."""
    try:
        async with runtime.transaction() as session:
            await crud.note_server(
                session, server_id, revision=head() or "", host=socket.gethostname(), pid=os.getpid()
            )
    except Exception as error:  # noqa: BLE001 - whatever it is, the next time it may go well
        log.warning("this server could not be noted: %s", getattr(error, "detail", type(error).__name__))


async def refuse_older(session: AsyncSession, steps: Sequence[Revision], *, force: bool) -> dict[str, Any]:
    """Refuse what servers that live now may still use; where it is done all the same, return what the audit log says.

    Raises:
        OlderServers: There are such servers, and nobody said `force`.
    """
    async with session.begin_nested() as looking:
        alive = await crud.servers(session)
        session.expunge_all()
        # This lets go of the lock on their table, which a migration may be about.
        await looking.rollback()
    ids = [revision.id for revision in chain()]
    forced = set()
    for one in steps:
        # A server that is newer than this code is not in its list; it knows all of this.
        needed = ids.index(one.unused_since or one.id) if one.phase == "contract" else 0
        older = [server for server in alive if server.revision in ids[:needed]]
        if older and not force:
            raise OlderServers(
                f"Migration {one.id} ({one.text}) takes away what servers of an older version may use",
                cause="; ".join(f"{s.host}, process {s.pid}, was built for {s.revision}" for s in older[:5]),
                hint="stop them (whoever was killed counts for a minute), then run this again; or as far as "
                f"--to {one.parent}; or with --force, if you know that they do not use it",
            )
        forced |= {f"{server.host} {server.pid}" for server in older}
    return {"forced": sorted(forced)} if forced else {}
