"""What is written down of those who were refused: a known actor who lacks a scope, or does not know their password."""

import asyncio
import logging
from typing import Final

from api.audit import crud
from api.core.actor import Actor
from api.core.errors import ApictlError, MissingScope
from api.core.runtime import Runtime
from api.users.records import WrongPassword

log: Final = logging.getLogger("apictl")
REFUSALS: Final = (MissingScope, WrongPassword)
# Whoever is refused waits for it no longer.
SECONDS: Final = 1.0


async def note_refusal(runtime: Runtime, actor: Actor, error: MissingScope | WrongPassword, *, operation: str) -> None:
    """Write down that an actor may not do what they asked for, once a minute for each operation of theirs.

    In a transaction of its own: that of the operation is undone by now. Whoever only wanted to read is not written
    down, nor is what cannot be written: they are refused all the same.
    """
    if actor.user_id is None or (isinstance(error, MissingScope) and error.is_about_reading):
        return
    try:
        async with asyncio.timeout(SECONDS), runtime.transaction() as session:
            await crud.add_refusal(session, actor, operation=operation, reason=error.detail)
    except (ApictlError, TimeoutError) as second:
        log.warning("a refusal could not be recorded: %s", getattr(second, "code", "it took too long"))
