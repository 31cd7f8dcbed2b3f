"""Passwords: the policy, and an executor of their own. Who owns a password is not known here."""

import asyncio
import os
import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from api.core.errors import ApictlError, Busy, FieldError, Kind
from api.core.spans import span

if TYPE_CHECKING:
    from api.core.hashes import Verified

MAX_CHARACTERS: Final = 256
MAX_BYTES: Final = 1024
SYMBOLS: Final = frozenset("@({[<!|$+%")
ONE_SYMBOL_A_LETTER: Final = str.maketrans("@{[<!|$+", "4(((1157")
QUEUE_LIMIT: Final = 64
QUEUE_SECONDS: Final = 2.0
# Seconds without a hash, after which its memory is given back.
IDLE: Final = 1.0

T = TypeVar("T")


class WeakPassword(ApictlError):
    """The password is too short, too long, or too easy to guess."""

    kind = Kind.INVALID
    code = "weak-password"
    title = "The password was refused"


def normalise(password: str) -> str:
    """Return the password as it is hashed: NFC, as RFC 8265 (OpaqueString) asks; nothing trimmed or cut."""
    return unicodedata.normalize("NFC", password)


def is_too_long(password: str) -> bool:
    """Tell whether the password is beyond what is ever hashed."""
    return len(password) > MAX_CHARACTERS or len(password.encode(errors="surrogatepass")) > MAX_BYTES


def is_hashable(password: str) -> bool:
    """Tell whether every scheme can take the password: it is bounded, valid Unicode, and without U+0000."""
    try:
        return not is_too_long(password) and b"\x00" not in password.encode()
    except UnicodeEncodeError:
        return False


def affordable(password: str) -> str:
    """Return what zxcvbn is shown of a password: it refuses more than 72 characters, and must not be made to think.

    It tries every way to read "1337" symbols as letters, and a password with all of them would take it two seconds, for
    which nobody else could log in. One with more than three is shown with a single symbol for each letter.
    """
    shown = password[:72]
    return shown.translate(ONE_SYMBOL_A_LETTER) if len(SYMBOLS & set(shown)) > 3 else shown


class Passwords:
    """Checks and hashes passwords without stalling the event loop.

    Argon2 releases the GIL, so as many threads as cores give the full rate; more would only add 19 MiB each and
    delay the loop. Beyond `QUEUE_LIMIT` waiting, or `QUEUE_SECONDS` of waiting, the caller is told to come back.
    """

    def __init__(self, *, min_length: int, threads: int | None = None) -> None:
        self.min_length = min_length
        self.threads = threads or os.cpu_count() or 1
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="passwords")
        self._slots = asyncio.Semaphore(self.threads)
        self.waiting = self.hashing = 0
        self._giving_back: asyncio.TimerHandle | None = None

    def require_room(self) -> None:
        """Go on only if one more would be let into the queue: a look, for whoever has more to do before that.

        Raises:
            Busy: The queue is full.
        """
        if self.waiting >= QUEUE_LIMIT:
            raise Busy("Too many passwords are being checked")

    def close(self) -> None:
        """Let the threads go."""
        if self._giving_back is not None:
            self._giving_back.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str, *, personal: Sequence[str] = (), field: str = "password") -> str:
        """Return the hash of a new password that the policy accepts.

        Args:
            password: As the person typed it.
            personal: What an attacker would try first: the e-mail address and the name.
            field: What the caller calls it.

        Raises:
            WeakPassword: The policy refuses it; nothing was hashed.
            Busy: The queue is full.
        """
        password = normalise(password)
        self._check_length(password, field)
        return await self._run(partial(self._check_and_hash, password, tuple(personal), field))

    async def verify(self, password: str, stored: str | None) -> "Verified":
        """Check a password against a stored hash; with none, spend the same time and say no.

        Raises:
            Busy: The queue is full.
        """
        from api.core import hashes  # noqa: PLC0415 - heavy, and not needed before somebody shows a password

        if not is_hashable(password):
            # The same for every account, so the saved time tells nothing.
            return hashes.Verified(ok=False)
        return await self._run(partial(hashes.check, normalise(password), stored))

    async def cost(self) -> tuple[float, int]:
        """Return what a hash takes here, in seconds of a processor, and the number of its rounds.

        Raises:
            Busy: The queue is full.
        """
        from api.core import hashes  # noqa: PLC0415 - as above

        return await self._run(hashes.cost)

    def _check_length(self, password: str, field: str) -> None:
        if is_too_long(password):
            problem = f"it may have at most {MAX_CHARACTERS} characters and {MAX_BYTES} bytes"
        elif len(password) < self.min_length:
            problem = f"it must have at least {self.min_length} characters"
        elif not is_hashable(password):
            problem = "it contains a character that no text can hold"
        else:
            return
        raise WeakPassword(f"The password was refused: {problem}", errors=[FieldError(field, problem, "length")])

    def _check_and_hash(self, password: str, personal: tuple[str, ...], field: str) -> str:
        # Heavy to import, and needed only here.
        from zxcvbn import zxcvbn  # noqa: PLC0415

        from api.core import hashes  # noqa: PLC0415

        guess = zxcvbn(affordable(password), user_inputs=list(personal))
        if guess["score"] < 2:
            problem = "it is easy to guess; four unrelated words are not"
            raise WeakPassword(
                f"The password was refused: {problem}",
                cause=guess["feedback"]["warning"] or None,
                errors=[FieldError(field, problem, "guessable")],
            )
        return hashes.make(password)

    async def _run(self, work: Callable[[], T]) -> T:
        async with self._turn():
            with span("password hash"):
                return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _give_back(self) -> None:
        from api.core.memory import give_back  # noqa: PLC0415 - commands end before

        self._executor.submit(give_back)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        self.require_room()
        self.waiting += 1
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise Busy("Too many passwords are being checked") from None
        finally:
            self.waiting -= 1
        self.hashing += 1
        try:
            yield
        finally:
            self.hashing -= 1
            self._slots.release()
            if self._giving_back is not None:
                self._giving_back.cancel()
            self._giving_back = asyncio.get_running_loop().call_later(IDLE, self._give_back)
