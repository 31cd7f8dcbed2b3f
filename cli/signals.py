"""What Ctrl-C, SIGTERM and a lost terminal do: the program ends through every `finally`, with transactions undone."""

import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, NoReturn, TypeVar

T = TypeVar("T")


def on_interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Leave on Ctrl-C."""
    raise KeyboardInterrupt


def on_terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Leave as on Ctrl-C."""
    raise SystemExit(143)


def on_hangup(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Leave because the terminal is gone: a connection that broke."""
    raise SystemExit(129)


HANDLERS: Final = {signal.SIGINT: on_interrupt, signal.SIGTERM: on_terminate}
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
    # Under nohup, it goes on.
    HANDLERS[signal.SIGHUP] = on_hangup


def leave_at_once() -> None:
    """Raise where the program stands, also at a prompt: asyncio's own handler of Ctrl-C would wait for the prompt."""
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


@contextmanager
def at_a_prompt() -> Iterator[None]:
    """Let a signal end the wait for a person, although a coroutine of ours is running; from before they are asked."""
    import asyncio

    before = {number: signal.getsignal(number) for number in HANDLERS}
    leave_at_once()
    try:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # It came a moment before: nobody is to be asked any more.
            raise asyncio.CancelledError
        yield
    except (KeyboardInterrupt, SystemExit):
        # Where the terminal is gone, there is nobody to tell.
        with suppress(OSError):
            print("\nerror: interrupted", file=sys.stderr, flush=True)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def complete(work: Coroutine[Any, Any, T], *, is_service: bool = False) -> T:
    """Run a coroutine to its end: the only place where this is done. Of a service that a signal ends, no error is told.

    A signal cancels it where it waits. Raised in the middle of it, an exception could meet the driver between a
    statement and its answer, and what came of that would hide the signal. A second signal is raised at once.
    """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    class Threads(ThreadPoolExecutor):
        """Threads that nobody waits for at the end: one may ask a name server that does not answer."""

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            del wait
            super().shutdown(wait=False, cancel_futures=cancel_futures)

    asked: list[signal.Signals] = []

    async def cancellable() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None  # noqa: S101 - we are in it
        loop.set_default_executor(Threads())

        def cancel(number: int, _frame: FrameType | None) -> None:
            asked.append(signal.Signals(number))
            leave_at_once()
            if number == signal.SIGHUP:
                # The shell sends one too, and nobody is there who would be impatient.
                signal.signal(number, signal.SIG_IGN)
            task.cancel()
            # The loop may be asleep.
            loop.call_soon_threadsafe(lambda: None)

        for number in HANDLERS:
            signal.signal(number, cancel)
        try:
            return await work
        finally:
            leave_at_once()

    try:
        return asyncio.run(cancellable())
    except BaseException:
        if asked:
            # Where the terminal is gone, there is nobody to tell.
            with suppress(OSError):
                if not is_service:
                    print("error: interrupted", file=sys.stderr, flush=True)
            HANDLERS[asked[0]](asked[0], None)
        raise
