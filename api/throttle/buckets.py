"""What holds guesses back: buckets of attempts, which refill by themselves. Pure functions; `stores` keeps them.

A bucket is one moment, when it is full again (the generic cell rate algorithm, ITU-T I.371): an attempt takes one out,
which moves that moment on, and who finds it empty waits until the next one is back. So a wait has an end, whatever
anybody does, and what was refused makes it no longer.
"""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address
from typing import Final

from api.core.sealing import digest
from api.urls import ip_of


@dataclass(frozen=True, slots=True)
class Limit:
    """So many attempts at once, and then one more each time so many seconds are over."""

    name: str
    burst: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """The attempts that somebody has.

    Attributes:
        key: Whose, and of what.
        every: How long one takes to come back.
        room: How far ahead the moment may be at which it is full again, for one more to be taken.
    """

    key: bytes
    every: timedelta
    room: timedelta


# At most ten in a minute: nine, and the one that comes back.
GUESS: Final = Limit("account and network", 9, 60)
# Who guesses at many accounts, from many networks, or both: only what was wrong counts. The last two hold nobody back
# who comes from where the account has logged in before: its owner gets in from there, whatever others do elsewhere.
BY_NETWORK: Final = Limit("network", 100, 5)
BY_ACCOUNT: Final = Limit("account", 50, 6)
IN_TOTAL: Final = Limit("everybody", 1000, 0.1)
# As long as a session lives, by default: whoever comes back once a month is known.
KNOWN_FOR: Final = timedelta(days=30)
# What somebody types who has a device before them; and how many devices may begin to wait, which takes no credentials.
USER_CODES: Final = Limit("user codes", 30, 10)
DEVICES: Final = Limit("devices", 60, 5)
# Mails that are sent because a stranger asked: of each kind, three to an address in a quarter of an hour.
MAILS_TO: Final = Limit("mails to", 3, 300)
MAILS_FROM: Final = Limit("mails from", 20, 45)


def bucket(limit: Limit, *whose: str) -> Bucket:
    """Return somebody's bucket."""
    every = timedelta(seconds=limit.seconds)
    return Bucket(key(limit.name, *whose), every, every * (limit.burst - 1))


def key(*parts: str) -> bytes:
    """Return under what something is kept; no part of it can be taken for another."""
    return digest("\0".join(parts))


def network(address: str) -> str:
    """Return what one subscriber has of the internet: an IPv4 address, or the first 64 bits of an IPv6 one.

    Whoever has no address (a Unix socket) is in a network with all who have none.
    """
    found = ip_of(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Address(int(found) >> 64 << 64))
    return "" if found is None else str(found)
