"""How the signing keys come from their table into a process's hands, and are never older there than a second.

So a key that another process made signs here without a restart, and one that it retired is refused here.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Final

import asyncpg
from pydantic_core import from_json
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud as audit
from api.config import Algorithm
from api.core.actor import NO_SCOPES, Actor, Door
from api.core.runtime import Runtime
from api.signing_keys import crud
from api.signing_keys.jwk import SigningKey, make_sealed, signing_key
from api.tokens.keys import Keys

MAX_AGE: Final = 1.0
# When it is read again before it is too old: who waits for it is one of a hundred, and takes ten times as long.
SOON: Final = 0.7


async def fresh(keys: Keys, runtime: Runtime, *, since: float | None = None, door: Door = "http") -> Keys:
    """Return the keys, with a ring whose reading began after `since` (monotonic), or not more than a second ago.

    Raises:
        SchemaBehind: There is no table for it yet.
    """
    now = time.monotonic()
    if since is None:
        since = now - MAX_AGE
    if keys.filled_at <= now - SOON:
        # While those who come now have no need to wait for it.
        begin_reading(keys, runtime, door)
    while keys.filled_at <= since:
        await asyncio.shield(begin_reading(keys, runtime, door))
    return keys


def begin_reading(keys: Keys, runtime: Runtime, door: Door) -> "asyncio.Task[None]":
    """Return what reads the ring: one for all who wait; and if it fails, it has failed for all of them."""
    if keys.reading is None or keys.reading.done():
        keys.reading = asyncio.create_task(read(keys, runtime, door=door))
        keys.reading.add_done_callback(heard)
    return keys.reading


def heard(reading: "asyncio.Task[None]") -> None:
    """Take note of how a reading ended: everybody who waited for it may be gone."""
    if not reading.cancelled():
        reading.exception()


async def read(keys: Keys, runtime: Runtime, *, door: Door) -> None:
    """Read the ring, and make its first key where there is none."""
    begun = time.monotonic()
    # By what all requests are read by: what is done once a second, and by nothing else, takes ten times as long.
    rows = await runtime.direct.fetch(crud.RING)
    if rows:
        keys.fill(opened(keys, rows), now=rows[0]["now"], at=begun)
        return
    async with runtime.transaction() as session:
        await load(keys, session, runtime.settings.signing_algorithm, door=door)


async def load(keys: Keys, session: AsyncSession, algorithm: Algorithm, *, door: Door) -> None:
    """Read the ring in a transaction that may be undone, and make its first key where there is none."""
    begun = time.monotonic()
    if not await crud.usable(session):
        new = await asyncio.to_thread(make_sealed, algorithm, keys.sealing)
        await crud.lock(session)
        # Another process may have made it meanwhile.
        if not await crud.usable(session):
            first = await crud.add(session, new)
            system = Actor(name="system", scopes=NO_SCOPES, door=door)
            await audit.add(
                session, system, action="signing_key.create", target="signing_key", target_id=first.id,
                detail={"algorithm": algorithm},
            )  # fmt: skip
    rows = await crud.ring(session)
    keys.fill(opened(keys, rows), now=rows[0]["now"], at=begun)


def opened(keys: Keys, rows: Iterable[asyncpg.Record | RowMapping]) -> Iterator[SigningKey]:
    """Return the keys of these rows, opened; one that is in hand already is not opened again."""
    for row in rows:
        kid = str(row["id"])
        if kid in keys.ring:
            yield keys.ring[kid]
        else:
            shown = row["public_jwk"]
            yield signing_key(
                kid,
                row["algorithm"],
                number=row["number"],
                active_from=row["active_from"],
                sealed=row["sealed"],
                # As the driver has it, or SQLAlchemy.
                shown=from_json(shown) if isinstance(shown, str) else shown,
                key=keys.sealing,
            )
