"""How long a request may take: one that takes longer is cut off, and what it has not committed is undone. HTTP only.

A timer for each request would cost a hundredth of the fastest ones. This is a look at all of them, four times a second.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

# Seconds between two looks.
EVERY: Final = 0.25
# Seconds before its time is over that a request is cut off: to notice it takes one look, to undo it up to two more.
MARGIN: Final = 0.75
STRUCK: Final = -1.0


class Deadlines:
    """The requests under way, each until its answer begins.

    Attributes:
        under_way: Their tasks, the oldest first, and when each began; STRUCK: it was cut off.
        now: The time of the last look.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self.under_way: dict[asyncio.Task[Any] | None, float] = {}
        self.now = 0.0

    @asynccontextmanager
    async def kept(self, seconds: float) -> AsyncIterator[None]:
        """Look again and again, for the length of a `with` block, for what takes longer than so many seconds."""
        self._seconds = seconds
        loop = asyncio.get_running_loop()
        next_look: asyncio.Handle

        def look() -> None:
            nonlocal next_look
            # Before anything can go wrong.
            next_look = loop.call_later(EVERY, look)
            self.look(loop.time())

        look()
        try:
            yield
        finally:
            next_look.cancel()

    def look(self, now: float) -> None:
        """Cut off what takes too long.

        Once more at each look, as long as it goes on: what is cut off waits for the database to hear of it, and it is
        the database that does not answer.
        """
        self.now = now
        latest = now - (self._seconds - MARGIN)
        for task, begun in self.under_way.items():
            if begun > latest:
                break
            if task is not None:
                self.under_way[task] = STRUCK
                task.cancel()

    def lift(self, task: asyncio.Task[Any] | None) -> None:
        """Let a request take as long as it takes from now on, unless it is being cut off."""
        if self.under_way.get(task) != STRUCK:
            self.under_way.pop(task, None)

    def ended(self, task: asyncio.Task[Any] | None) -> bool:
        """Forget a request, and tell whether it was cut off; what it does then is not cancelled."""
        if self.under_way.pop(task, 0.0) != STRUCK:
            return False
        while task is not None and task.cancelling():
            task.uncancel()
        return True
