"""A connection: what may come on it and how long it may take, and how answers are written. HTTP only.

uvicorn's parser is llhttp, which is strict about how a request is framed; what is here is what neither of them does.
Nothing is timed for a request: once a second, all connections are looked through, which costs each a microsecond.
"""

import asyncio
import logging
from enum import Enum, auto
from http import HTTPStatus
from secrets import token_hex
from typing import Any, Final
from weakref import WeakSet

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.core.errors import ApictlError, BadRequest
from api.core.heads import MAX_HEAD, MAX_HEADERS, MAX_TARGET, check_size, check_target
from api.core.problems import response
from api.core.refusals import HeadTooLarge, RequestTooSlow
from api.core.writing import Together

log = logging.getLogger("apictl")

# Bytes in one go that come with a body and are none of it: of a chunk's head, or of what is behind the last one, which
# the parser keeps until it is whole. And of that trailer's fields together.
MAX_AROUND, MAX_TRAILER = 32 * 1024, 8 * 1024
# What no trailer may have (RFC 9110, section 6.5.1): the parser goes by it, and the answer does not.
NEVER_TRAILING: Final = {b"connection", b"proxy-connection", b"upgrade"}
# Requests that wait on a connection for the one before: each takes a kilobyte, and thousands fit into one packet.
MAX_PIPELINED = 64
# Bytes that are read and thrown away, so that who is still sending finds the answer.
MAX_DRAINED = 128 * 1024 * 1024
# Bytes a second, sent or taken: below it, patience runs out.
LEAST_RATE = 1024
SECOND = 1.0
SWEPT: Final[WeakSet[ServerState]] = WeakSet()


class Phase(Enum):
    """What a connection waits for."""

    HEAD = auto()
    BODY = auto()
    # We are at work.
    ANSWER = auto()
    # The client reads.
    READER = auto()
    # Answered; what the client was sending comes to its end.
    REST = auto()
    IDLE = auto()
    # The same, between a proxy and us: longer than those wait that people use, or one would send into the end.
    IDLE_PROXY = auto()


SECONDS: Final = {
    # With a sweep at either end, and one for the answer, nobody who is slow stays for more than fifteen.
    Phase.HEAD: 8.0,
    Phase.BODY: 8.0,
    Phase.ANSWER: float("inf"),
    Phase.READER: 6.0,
    Phase.REST: 4.0,
    Phase.IDLE: 10.0,
    Phase.IDLE_PROXY: 75.0,
}
IDLE: Final = {False: Phase.IDLE, True: Phase.IDLE_PROXY}


class Protocol(HttpToolsProtocol):
    """uvicorn's, with limits."""

    transport: Together  # type: ignore[assignment]  # it is one in all that uvicorn uses

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Bytes since the request before was complete, and those that came last.
        self._size = self._last = 0
        # The body of a request comes, or what is behind it: so many bytes since its last piece, and in its trailer.
        self._is_in_body = False
        self._around = self._trailer = 0
        # What comes is thrown away.
        self._is_deaf = False
        # What was seen a second ago: the phase, of which request, and how much had come or gone; and the seconds left.
        self._phase, self._of = Phase.HEAD, self.scope
        self._moved = 0
        self._left = SECONDS[Phase.HEAD]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as it is there
        """Begin with a connection."""
        super().connection_made(Together(transport, self.loop, self.ends))  # type: ignore[arg-type]  # see above
        if self.server_state not in SWEPT:
            SWEPT.add(self.server_state)
            sweep(self.loop, self.server_state, self.loop.time())

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._last = len(data)
        self._size += self._last
        self._around += self._last
        if self._is_deaf:
            if self._size > MAX_DRAINED:
                self.transport.abort()
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request was answered as if it did not ask for that; what comes now may be another protocol.
            self._is_deaf = True
        except httptools.HttpParserError as error:
            ours = error.__context__
            self.refuse(ours if isinstance(ours, ApictlError) else BadRequest("This is not HTTP as RFC 9112 has it"))
        else:
            if self._size > MAX_HEAD and self._is_in_head():
                self.refuse(HeadTooLarge())
            elif self._around > MAX_AROUND and self._is_in_body:
                self.refuse(BadRequest("The request has too much around its body"))

    def on_headers_complete(self) -> None:
        """Look at a head; then go on with it.

        Raises:
            ApictlError: It is refused. The parser hands it to `data_received`.
        """
        if len(self.headers) > MAX_HEADERS or len(self.url) > MAX_TARGET or self._size + self._last > MAX_HEAD:
            check_size(self.url, self.headers)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise BadRequest("Too many requests were sent before the first was answered")
        if self.url[:1] != b"/":
            check_target(self.url, self.headers)
        is_upgrade = self.parser.should_upgrade()
        if is_upgrade and any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers):
            # The parser would take this body for the next request.
            raise BadRequest("A request that would change the protocol has no body here")
        super().on_headers_complete()
        self._is_in_body = True
        self._around = self._trailer = 0
        if is_upgrade:
            self.cycle.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes behind a body is none (RFC 9110, section 6.5): proxies pass it on as it came.

        Raises:
            ApictlError: There is too much behind a body, or what must not be there.
        """
        name = name.lower()
        if self._is_in_body:
            self._trailer += len(name) + len(value)
            if self._trailer > MAX_TRAILER:
                raise HeadTooLarge("There is too much behind the body")
            if name in NEVER_TRAILING:
                raise BadRequest(f"The field {name.decode()} must not come behind the body")
            return
        # As uvicorn has it.
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of a body."""
        self._around = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request has come whole."""
        self._size = 0
        self._is_in_body = False
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Go on with the request that waits; uvicorn's own sets a timer each time, which the sweep is in place of."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def ends(self) -> bool:
        """Read no more, except to throw it away; tell whether that is to be waited for."""
        has_rest = self._is_deaf or self._is_in_head() or self.cycle.more_body
        self._is_deaf = True
        self.flow.resume_reading()
        return has_rest

    def refuse(self, error: ApictlError) -> None:
        """Answer with a failure, if nothing else is being answered, and close."""
        self._is_deaf = True
        cycle = self.cycle
        if self._is_in_head():
            if not self._is_answered():
                # It comes first, and then the end.
                cycle.keep_alive = False
                return
        elif cycle.response_started or self.pipeline:
            self.transport.close()
            return
        else:
            # Whoever is reading its body is told that nobody sends it any more, and what they answer is dropped.
            cycle.disconnected = cycle.response_complete = True
            cycle.message_event.set()
        request_id = token_hex(16)
        log.warning("%s %s: %s (from %s)", request_id, error.code, error.detail, self.client)
        self.transport.write(written(error, request_id))
        self.transport.close()

    def look(self, seconds: float) -> None:
        """Close the connection, if its client takes too long: so many seconds are over since the last look."""
        unread = self.transport.get_write_buffer_size()
        phase = self._phase_now(unread)
        moved = self.transport.written - unread if phase is Phase.READER else self._size
        if phase is not self._phase or (self.scope is not self._of and phase is not Phase.READER):
            self._phase, self._of, self._left = phase, self.scope, SECONDS[phase]
        else:
            self._left -= seconds
            if phase in {Phase.BODY, Phase.READER}:
                self._left = min(SECONDS[phase], self._left + (moved - self._moved) / LEAST_RATE)
        self._moved = moved
        if self._left < 0:
            self._give_up(phase)

    def _phase_now(self, unread: int) -> Phase:
        if unread:
            return Phase.READER
        cycle = self.cycle
        if self.transport.is_closing():
            return Phase.REST
        if not self._is_answered() and (self._is_deaf or not self._is_in_head()):
            # It is not always the client who keeps us waiting.
            is_ours = not cycle.more_body or self._is_deaf or self.flow.read_paused or cycle.waiting_for_100_continue
            return Phase.ANSWER if is_ours else Phase.BODY
        if self._is_in_head():
            return Phase.HEAD
        return Phase.REST if cycle.more_body else IDLE["is_proxied" in cycle.scope["state"]]

    def _give_up(self, phase: Phase) -> None:
        if phase is Phase.BODY or (phase is Phase.HEAD and self.scope):
            self.refuse(RequestTooSlow(f"Its {phase.name.lower()} did not come in time"))
            # A second to read that.
            self._phase, self._left = Phase.REST, 0.0
        else:
            self.transport.end()

    # uvicorn has neither before the first request, whatever it says of their types.

    def _is_in_head(self) -> bool:
        """Tell whether what comes belongs to the head of a request."""
        return self.scope is not getattr(self.cycle, "scope", self)

    def _is_answered(self) -> bool:
        """Tell whether nobody is at work on a request."""
        return getattr(self.cycle, "response_complete", True)


def sweep(loop: asyncio.AbstractEventLoop, state: ServerState, last: float) -> None:
    """Look at every connection now, and once a second from now on; `last` is when that was done before."""
    now = loop.time()
    loop.call_later(SECOND, sweep, loop, state, now)
    # While we hang, or the machine sleeps, nobody else is slow.
    seconds = min(now - last, 2 * SECOND)
    for connection in list(state.connections):
        if isinstance(connection, Protocol):
            connection.look(seconds)


def written(error: ApictlError, request_id: str) -> bytes:
    """Return a failure as it goes over the network, from where there is no application to send it."""
    answer = response(error, {"state": {"request_id": request_id}})
    headers = [*answer.raw_headers, (b"connection", b"close")]
    lines = [b"HTTP/1.1 %d %s" % (answer.status_code, HTTPStatus(answer.status_code).phrase.encode())]
    lines += [b"%s: %s" % pair for pair in headers]
    return b"\r\n".join([*lines, b"", bytes(answer.body)])
