"""A server says that it lives, and which revision its code was built for: whoever takes something away looks."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import UUID

from api.core.errors import ApictlError
from api.core.ids import uuid7
from api.core.runtime import Runtime
from api.migrations import crud
from api.migrations.revisions import head

log: Final = logging.getLogger("apictl")
# Seconds; a third of what a server may be silent before it counts as gone.
BEAT: Final = crud.LIVES.total_seconds() / 3


@asynccontextmanager
async def announced(runtime: Runtime) -> AsyncIterator[None]:
    """Have the database know of this process for the length of a `with` block."""
    server_id = uuid7()
    beating = asyncio.create_task(beat(runtime, server_id))
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
        with suppress(ApictlError):
            async with runtime.transaction() as session:
                await crud.forget_server(session, server_id)


async def beat(runtime: Runtime, server_id: UUID) -> None:
    """Say so again and again; where the database is away, or behind, later."""
    while True:
        try:
            async with runtime.transaction() as session:
                await crud.note_server(
                    session, server_id, revision=head() or "", host=socket.gethostname(), pid=os.getpid()
                )
        except ApictlError as error:
            log.warning("this server could not be noted: %s (%s)", error.detail, error.cause or "no cause known")
        await asyncio.sleep(BEAT)
