"""W7: a file of people, each with a hash, imported by the command; and the same rows by COPY alone."""

import asyncio
import time
from collections.abc import Iterator
from typing import Final

import asyncpg

from api.core.ids import uuid7
from benchmarks.bounds import Bound
from benchmarks.contenders import Place, done, ours_settings
from benchmarks.servers import apictl

COLUMNS: Final = ("id", "email", "full_name", "password_hash")
HASH: Final = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdCBvZiBub2JvZHkncw$bm9ib2R5IGhhcyB0aGUgcGFzc3dvcmQgb2YgdGhpcyE"


async def copied(place: Place, rows: int) -> float:
    """Return how many seconds COPY takes into an empty table as `users` is, with its indexes."""
    records = [(uuid7(), f"w{number}@example.com", f"User Number {number}", HASH) for number in range(rows)]
    connection = await asyncpg.connect(place.database_url)
    await connection.execute("TRUNCATE users CASCADE")
    await connection.execute("CREATE TABLE bare (LIKE users INCLUDING ALL)")
    began = time.perf_counter()
    await connection.copy_records_to_table("bare", records=records, columns=COLUMNS, timeout=600)
    lasted = time.perf_counter() - began
    await connection.execute("DROP TABLE bare")
    await connection.close()
    return lasted


def imported(place: Place, rows: int) -> float:
    """Return how many seconds the command takes, from nothing to its end."""
    file = place.folder / "people.csv"
    if not file.exists():
        lines = (f'w{number}@example.com,User Number {number},"{HASH}"\n' for number in range(rows))
        file.write_text("email,full_name,password_hash\n" + "".join(lines), encoding="ascii")
    began = time.perf_counter()
    done(apictl("import-users", str(file), "--quiet"), place, **ours_settings(place))
    return time.perf_counter() - began


def bulk(place: Place, *, rounds: int, rows: int) -> Iterator[Bound]:
    """Yield how fast people are imported, to COPY of the same rows in the same round."""
    found = [asyncio.run(copied(place, rows)) / imported(place, rows) for _ in range(rounds)]
    (place.folder / "people.csv").unlink()
    yield Bound(f"W7: {rows:,} people imported, with hashes, to a bare COPY of them", found, "0.6")
