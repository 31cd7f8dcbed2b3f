"""How the signing keys come from their table into a process's hands, and are never older there than a second.

So a key that another process made signs here without a restart, and one that it retired is refused here.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final, cast

from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud as audit
from api.core.actor import NO_SCOPES, Actor
from api.core.ids import uuid7
from api.core.runtime import Runtime
from api.signing_keys import crud
from api.signing_keys.jwk import Algorithm, SigningKey, make, public_jwk, seal, signing_key
from api.signing_keys.models import SigningKeyRow
from api.tokens.keys import Keys

MAX_AGE: Final = 1.0


async def fresh(keys: Keys, runtime: Runtime, *, since: float | None = None) -> Keys:
    """Return the keys, with a ring that was read after `since` (monotonic), or not more than a second ago.

    Raises:
        SchemaBehind: There is no table for it yet.
    """
    if since is None:
        since = time.monotonic() - MAX_AGE
    if keys.filled_at <= since:
        async with keys.filling:
            # Whoever waited has what the one before has read.
            if keys.filled_at <= since:
                async with runtime.transaction(readonly=True) as session:
                    rows = await crud.usable(session)
                if rows:
                    keys.fill(opened(keys, rows))
                else:
                    async with runtime.transaction() as session:
                        await load(keys, session, runtime.settings.signing_algorithm)
    return keys


async def load(keys: Keys, session: AsyncSession, algorithm: Algorithm) -> None:
    """Read the ring, and make its first key where there is none."""
    rows = await crud.usable(session)
    if not rows:
        first = await add(session, keys, number=1, algorithm=algorithm)
        # Another process may have made it meanwhile.
        rows = await crud.usable(session) if first is None else [first]
        if first is not None:
            system = Actor(name="system", scopes=NO_SCOPES, door="http")
            await audit.add(
                session, system, action="signing_key.create", target="signing_key", target_id=first.id,
                detail={"algorithm": algorithm},
            )  # fmt: skip
    keys.fill(opened(keys, rows))


async def add(
    session: AsyncSession, keys: Keys, *, number: int, algorithm: Algorithm, wait: int = 0
) -> SigningKeyRow | None:
    """Make a key that signs after so many seconds; None if there is one of this number."""
    key_id = uuid7()
    kid = str(key_id)
    # RSA takes its time.
    material = await asyncio.to_thread(make, algorithm)
    return await crud.add(
        session,
        number=number,
        wait=timedelta(seconds=wait),
        id=key_id,
        algorithm=algorithm,
        public_jwk=public_jwk(kid, algorithm, material),
        sealed=seal(material, keys.sealing, kid=kid, algorithm=algorithm),
    )


def opened(keys: Keys, rows: Iterable[SigningKeyRow]) -> Iterator[SigningKey]:
    """Return the keys of these rows, opened; one that is in hand already is not opened again."""
    for row in rows:
        kid = str(row.id)
        if kid in keys.ring:
            yield keys.ring[kid]
        elif row.sealed is not None:
            yield signing_key(
                kid,
                cast("Algorithm", row.algorithm),
                active_from=row.active_from,
                sealed=row.sealed,
                shown=row.public_jwk,
                key=keys.sealing,
            )
