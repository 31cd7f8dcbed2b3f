"""Where buckets are kept: in the database, or in a Valkey (or Redis) that all processes share. By either's clock."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol

from api.core.direct import Direct
from api.core.valkey import Valkey
from api.throttle import crud
from api.throttle.buckets import KNOWN_FOR, Bucket

MILLISECOND: Final = timedelta(milliseconds=1)


class Store(Protocol):
    """What the rule needs of a place; each is one step, which nobody comes between."""

    async def take(self, needed: Sequence[Bucket], *, known: bytes) -> timedelta | None:
        """Take an attempt out of the first bucket, and return None; or how long it takes until none is empty.

        Whoever is known needs only the first two.
        """
        ...

    async def charge(self, wrong: Sequence[Bucket]) -> None:
        """Take one out of each, whether or not there is one."""
        ...

    async def give_back(self, guess: Bucket) -> None:
        """Put one back."""
        ...

    async def fill(self, guess: Bucket, *, known: bytes) -> None:
        """Fill a bucket, and note that whoever has it is known from now on."""
        ...


class InPostgres:
    """In a table."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct

    async def take(self, needed: Sequence[Bucket], *, known: bytes) -> timedelta | None:
        found = await self._direct.fetch_one(
            crud.TAKE,
            known=known,
            keys=[one.key for one in needed],
            rooms=[one.room for one in needed],
            every=needed[0].every,
        )
        if found is None or found["is_taken"]:
            return None
        # Somebody took the last one while this looked for it.
        return found["wait"] or needed[0].every

    async def charge(self, wrong: Sequence[Bucket]) -> None:
        await self._direct.fetch(crud.CHARGE, keys=[one.key for one in wrong], every=[one.every for one in wrong])
        await self._direct.fetch(crud.CLEAN)

    async def give_back(self, guess: Bucket) -> None:
        await self._direct.fetch(crud.CHARGE, keys=[guess.key], every=[-guess.every])

    async def fill(self, guess: Bucket, *, known: bytes) -> None:
        await self._direct.fetch(crud.FILL, key=guess.key, known=known, kept=KNOWN_FOR)


# KEYS: who is known, then the buckets. ARGV: how long one takes to come back, then the room of each; in milliseconds.
TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known = redis.call('EXISTS', KEYS[1]) == 1
local wait = 0
for place = 2, #KEYS do
    local full = tonumber(redis.call('GET', KEYS[place]) or 0)
    if place < 4 or not known then
        wait = math.max(wait, full - now - ARGV[place])
    end
end
if wait == 0 then
    local full = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), now) + ARGV[1]
    redis.call('SET', KEYS[2], full, 'PX', full - now)
end
return wait
"""
# KEYS: buckets. ARGV: what to take out of each, in milliseconds.
CHARGE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for place = 1, #KEYS do
    local full = math.max(tonumber(redis.call('GET', KEYS[place]) or 0), now) + ARGV[place]
    if full > now then
        redis.call('SET', KEYS[place], full, 'PX', full - now)
    else
        redis.call('DEL', KEYS[place])
    end
end
"""
FILL: Final = """
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], 1, 'PX', ARGV[1])
"""


class InValkey:
    """In keys that expire when they say nothing any more."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey

    async def take(self, needed: Sequence[Bucket], *, known: bytes) -> timedelta | None:
        rooms = [milliseconds(one.room) for one in needed]
        keys = [known, *(one.key for one in needed)]
        wait = await self._valkey.run(TAKE, keys, [milliseconds(needed[0].every), *rooms])
        return wait * MILLISECOND if wait else None

    async def charge(self, wrong: Sequence[Bucket]) -> None:
        await self._valkey.run(CHARGE, [one.key for one in wrong], [milliseconds(one.every) for one in wrong])

    async def give_back(self, guess: Bucket) -> None:
        await self._valkey.run(CHARGE, [guess.key], [-milliseconds(guess.every)])

    async def fill(self, guess: Bucket, *, known: bytes) -> None:
        await self._valkey.run(FILL, [guess.key, known], [milliseconds(KNOWN_FOR)])


def milliseconds(time: timedelta) -> int:
    """Return a time in milliseconds."""
    return time // MILLISECOND
