"""What a server says of itself, a line each: JSON for machines, text for people.

Whatever somebody sends can stand in such a line, and must not become one. Processes that share a pipe must not mix
theirs: each line is one write of no more than a pipe keeps whole.
"""

import json
import logging
import os
import sys
import time
from asyncio import get_running_loop
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, Literal, Self

Form = Literal["json", "text"]
# The request that is being answered, whoever writes a line about it.
REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")
REQUESTS: Final = "apictl.requests"
# PIPE_BUF of pipe(7), in bytes.
LONGEST: Final = 4096
METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def configuration(form: Form, level: str, *, requests: bool, statements: int) -> dict[str, Any]:
    """Return what `logging.config` makes of it, in this process and in those that it starts.

    Args:
        form: Of a line.
        level: From where on our lines and uvicorn's are written.
        requests: Whether each request has a line.
        statements: The level of what is said about the database, which is its statements at DEBUG.
    """
    ours: dict[str, Any] = {name: {"level": level.upper()} for name in ("apictl", "uvicorn")}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"lines": {"()": Lines, "form": form}},
        # What other libraries say below that may have headers in it, and so tokens.
        "root": {"level": "WARNING", "handlers": ["lines"]},
        "loggers": ours
        | {"api": {"level": statements, "propagate": True}}
        | ({} if requests else {REQUESTS: {"level": "WARNING"}}),
    }


class Lines(logging.Handler):
    """Writes each record as one line to stderr, and the lines of requests together, once a round of the event loop."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form = form
        self._held: list[str] = []
        self._second, self._prefix = 0, ""
        logging.captureWarnings(capture=True)

    @classmethod
    def of_requests(cls) -> Self | None:
        """Return the handler that is to have a line for each request; None: nobody wants them."""
        if not logging.getLogger(REQUESTS).isEnabledFor(logging.INFO):
            return None
        return next((one for one in logging.getLogger().handlers if isinstance(one, cls)), None)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            line = (as_json if self._form == "json" else as_text)(record, self._now(record.created))
        except Exception:  # noqa: BLE001 - as logging does it: whoever logs is not to fail of it
            self.handleError(record)
            return
        write(line)

    def request(self, scope: Any, status: int, seconds: float) -> None:
        """Write the line of a request, in a moment; its state says what is known of it.

        By hand: to make a dictionary of it, and JSON of that, would take longer than most routes do.
        """
        state, route = scope["state"], scope.get("route")
        # Not the path, where a route is known: people's names and addresses are in it, or the code of a device.
        place = quoted(scope["path"][:200]) if route is None else route.path
        method = scope["method"] if scope["method"] in METHODS else "?"
        told = f"{method} {place} {status}"
        if self._form == "json":
            line = (
                f'{{"time":"{self._now(time.time())}","level":"info","logger":"{REQUESTS}","message":"{told}",'
                f'"request_id":"{state["request_id"]}","ms":{seconds * 1000:.2f},"method":"{method}","status":{status},'
                f'"client":"{scope["client"][0] if scope["client"] else ""}"'
            )
            if route is not None:
                line += f',"route":"{place}"'
            if "user_id" in state:
                line += f',"user_id":"{state["user_id"]}"'
            if "failure" in state:
                line += f',"code":"{state["failure"]}"'
            line += "}\n"
        else:
            line = f"INFO:     {told} {seconds * 1000:.1f} ms [{state['request_id']}]\n"
        if not self._held:
            get_running_loop().call_soon(self._flush)
        self._held.append(line)

    def _flush(self) -> None:
        held, self._held = self._held, []
        lines = "".join(held).encode()
        while len(lines) > LONGEST:
            end = lines.rindex(b"\n", 0, LONGEST) + 1
            write(lines[:end])
            lines = lines[end:]
        write(lines)

    def _now(self, at: float) -> str:
        """Return a time as RFC 3339 has it, in UTC; what it takes is the date, so that is kept for its second."""
        second = int(at)
        if second != self._second:
            self._second, self._prefix = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((at - second) * 1000):03d}Z"


def as_json(record: logging.LogRecord, now: str) -> bytes:
    """Return a record as an object on one line of ASCII, with the end of its traceback in it."""
    message, traceback = record.getMessage(), traceback_of(record)
    line = b""
    # A character may take twelve bytes.
    for most in (3000, 1200, 150):
        entry = {
            "time": now,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message if len(message) <= most else message[:most] + "…",
            "request_id": REQUEST_ID.get(),
            # Its end says most.
            "traceback": traceback if len(traceback) <= most else "…" + traceback[-most:],
        }
        line = json.dumps({name: value for name, value in entry.items() if value}).encode() + b"\n"
        if len(line) <= LONGEST:
            break
    return line


def as_text(record: logging.LogRecord, _now: str) -> bytes:
    """Return a record as a person reads it: a line, and those of its traceback, which are indented."""
    told = f"{record.levelname + ':':<9} {escaped(record.getMessage())}"
    if request_id := REQUEST_ID.get():
        told += f" [{request_id}]"
    return "\n  ".join([told, *map(escaped, traceback_of(record).splitlines())]).encode() + b"\n"


def escaped(text: str) -> str:
    """Return a text on one line, in which nothing is that a terminal would obey."""
    return text.encode("unicode_escape").decode()


def quoted(text: str) -> str:
    """Return a text as it may stand within a string of JSON, in ASCII."""
    return json.dumps(text)[1:-1]


def traceback_of(record: logging.LogRecord) -> str:
    """Return what a record has of an exception."""
    return logging.Formatter().formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


def write(line: bytes) -> None:
    """Write to stderr, in one go; where nobody listens, nothing is to be said."""
    # Not descriptor 2: where the caller has closed it, that may be a connection of ours.
    if line and sys.stderr is not None:
        with suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), line)
