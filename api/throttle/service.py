"""The rule about guesses, for every secret that a person chooses or types: it is asked before the secret is looked at.

What is random to 128 bits or more (API keys, refresh tokens, device codes) needs none, and a second factor counts its
own, in the transaction that uses it up.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil

from api.core.errors import ApictlError, Kind
from api.core.runtime import Runtime
from api.throttle import buckets
from api.throttle.buckets import Bucket, bucket, key
from api.throttle.stores import InPostgres, InValkey, Store


class TooManyAttempts(ApictlError):
    """Too many, for this account, from this network, or in total; the same whether or not there is an account."""

    kind = Kind.RATE_LIMITED
    code = "too-many-attempts"
    title = "Too many attempts"

    def members(self) -> dict[str, str]:
        """Return what OAuth clients look for; of the words of RFC 6749, the one for what passes."""
        return {"error": "temporarily_unavailable", "error_description": self.detail}


@dataclass(slots=True)
class Attempt:
    """One guess; right only if whoever looked at it says so."""

    is_right: bool = False


class Throttle:
    """Holds back whoever guesses from one network; the terminal's operator, who has none, guesses nothing."""

    def __init__(self, runtime: Runtime, address: str) -> None:
        self._runtime = runtime
        self._network = buckets.network(address)
        self._store: Store = InPostgres(runtime.direct) if runtime.valkey is None else InValkey(runtime.valkey)

    @asynccontextmanager
    async def attempt(self, account: str) -> AsyncIterator[Attempt]:
        """Look at a guess in the block, and say there whether it was right; an error in it is no guess.

        Args:
            account: The canonical address that somebody wants to be, whether or not there is such an account.

        Raises:
            TooManyAttempts: Its time has not come; nothing was looked at, and the wait is no longer for it.
            Busy: Too many others guess the same.
        """
        guess = bucket(buckets.GUESS, account, self._network)
        wrong = [
            bucket(buckets.BY_NETWORK, self._network),
            bucket(buckets.BY_ACCOUNT, account),
            bucket(buckets.IN_TOTAL),
        ]
        known = key("known", account, self._network)
        # Few at a time: of twenty who log in at once, by the right password, none is taken for one who guesses.
        async with self._runtime.turnstile.pass_through(guess.key):
            await self._take([guess, *wrong], known=known)
            attempt = Attempt()
            try:
                yield attempt
            except ApictlError:
                await self._store.give_back(guess)
                raise
        if attempt.is_right:
            await self._store.fill(guess, known=known)
        else:
            # The same for everybody: what is written for some only tells them from the others.
            await self._store.charge(wrong)

    async def take_user_code(self, account: str) -> None:
        """Let somebody type the code of a device, who has logged in.

        Raises:
            TooManyAttempts: They have typed too many.
        """
        await self._take([bucket(buckets.USER_CODES, account)])

    async def take_device(self) -> None:
        """Let one more device begin to wait.

        Raises:
            TooManyAttempts: Too many of this network do.
        """
        await self._take([bucket(buckets.DEVICES, self._network)])

    async def take_mail(self, kind: str, address: str) -> None:
        """Let a mail be sent because somebody asked, to a canonical address; the same whether or not it is known here.

        Each kind has its own: who has mails of one sent to somebody keeps them from no other.

        Raises:
            TooManyAttempts: It, or this network, had too many.
        """
        by_network = bucket(buckets.MAILS_FROM, self._network)
        await self._take([bucket(buckets.MAILS_TO, kind, address), by_network])
        await self._store.charge([by_network])

    async def _take(self, needed: Sequence[Bucket], *, known: bytes = b"") -> None:
        wait = await self._store.take(needed, known=known)
        if wait is not None:
            seconds = max(1, ceil(wait.total_seconds()))
            raise TooManyAttempts(
                retry_after=seconds,
                hint=f"wait {seconds} second{'' if seconds == 1 else 's'}; nobody is locked out, and trying meanwhile "
                "makes it no longer",
            )
