"""Rows 31 to 33 of the threat table: what may come on a connection, how long it may take, and where a request ends."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from fastapi import Request
from fastapi.responses import PlainTextResponse

from api.core import connections, problems
from api.core.connections import SECONDS, Phase
from api.core.front import Application
from api.core.proxies import Forwarded
from faults.balancer import HAPROXY, balanced
from tests.support.cases import THOROUGH
from tests.support.processes import Apictl
from tests.support.raw import exchange, listening, statuses
from tests.support.server import serving

HOST: Final = b"Host: localhost\r\n"
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
LAST: Final = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


@pytest.fixture
def asked() -> list[str]:
    """The paths that a route was asked for."""
    return []


@pytest.fixture
def small(asked: list[str]) -> Application:
    """An application with the front, and nothing behind it."""
    app = Application()
    app.max_body_bytes = 64 * 1024
    problems.install(app)

    @app.api_route("/big", methods=["GET"])
    async def big() -> PlainTextResponse:
        return PlainTextResponse("x" * (32 << 20))

    @app.post("/early")
    async def early() -> str:
        return "It was not read."

    @app.post("/names")
    async def names(request: Request) -> list[str]:
        await request.body()
        return [name.decode() for name, _ in request.scope["headers"]]

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
    async def any_path(request: Request, path: str) -> dict[str, int]:
        asked.append(f"{path} {request.headers.get('x-front', '')}".strip())
        return {"body": len(await request.body())}

    return app


@pytest.fixture
async def port(small: Application) -> AsyncIterator[int]:
    async with listening(small) as number:
        yield number


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make seconds shorter."""
    monkeypatch.setattr(connections, "SECOND", 0.02)
    for phase in SECONDS:
        monkeypatch.setitem(SECONDS, phase, SECONDS[phase] / 25)


def problem(said: bytes, status: int, code: str) -> dict[str, Any]:
    """Check that the one answer is a failure of this kind; return it."""
    head, _, body = said.partition(b"\r\n\r\n")
    assert statuses(said) == [status], said
    assert b"\r\nconnection: close" in head.lower()
    found: dict[str, Any] = json.loads(body)
    assert (found["code"], found["status"], found["request_id"] in head.decode()) == (code, status, True)
    for header in (b"application/problem+json", b"cache-control: no-store", b"x-content-type-options: nosniff"):
        assert header in head.lower()
    return found


FIELD: Final = b"x" * 1000 + b": y\r\n"
LARGE: Final = [
    ([b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 101 + b"\r\n"], 431, "head-too-large"),
    ([b"GET / HTTP/1.1\r\n" + HOST + FIELD * 40 + b"\r\n"], 431, "head-too-large"),
    # In pieces, without an end; and one header alone, of which nothing is seen before it is over.
    ([b"GET / HTTP/1.1\r\n" + HOST] + [FIELD * 10] * 10, 431, "head-too-large"),
    ([b"GET / HTTP/1.1\r\n" + HOST + b"X: "] + [b"y" * 10_000] * 10, 431, "head-too-large"),
    ([b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"], 414, "target-too-long"),
    ([b"GET /", *([b"x" * 10_000] * 10)], 431, "head-too-large"),
]


@pytest.mark.parametrize(("pieces", "status", "code"), LARGE)
async def test_a_head_has_a_size(port: int, asked: list[str], pieces: list[bytes], status: int, code: str) -> None:
    problem(await exchange(port, *pieces), status, code)
    assert asked == []


async def test_what_is_within_the_limits(port: int, asked: list[str]) -> None:
    """Also right behind others, in whose packets it begins."""
    full = b"GET /full HTTP/1.1\r\n" + HOST + FIELD * 30 + b"X: 1\r\n" * 69 + b"\r\n"
    body = b"POST /body HTTP/1.1\r\n" + HOST + b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000
    assert statuses(await exchange(port, full * 4 + body + full, LAST)) == [200] * 7
    assert asked == [*["full"] * 4, "body", "full", "last"]


async def test_one_line_of_the_log_tells_a_refusal(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = problem(await exchange(port, b"NONSENSE\r\n\r\n"), 400, "bad-request")
    (line,) = (record.getMessage() for record in caplog.records if record.name == "apictl")
    assert line.startswith(f"{found['request_id']} bad-request: ")


async def test_what_comes_before_nonsense_is_answered(port: int, asked: list[str]) -> None:
    assert statuses(await exchange(port, b"GET /a HTTP/1.1\r\n" + HOST + b"\r\nNONSENSE\r\n\r\n")) == [200]
    many = b"GET /b HTTP/1.1\r\n" + HOST + b"\r\n"
    assert set(statuses(await exchange(port, many * 1000))) == {200}
    assert asked[0] == "a"
    assert 0 < asked.count("b") <= connections.MAX_PIPELINED + 2


CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
ODD_CODINGS: Final = [
    b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", CHUNKED * 2, b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding\t: chunked\r\n", b" Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding: \x00chunked\r\n", b"Transfer-Encoding: chunked\x00\r\n", b'Transfer-Encoding: "chunked"\r\n',
    b"Transfer-Encoding: chun\r\n ked\r\n", b"X: y\rTransfer-Encoding: chunked\r\n",
    b"X: y\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked;q=1\r\n", b"Transfer-Encoding:\r\n",
    b"Transfer-Encoding: chunked\r\r\n", b"TRANSFER-ENCODING: Chunked\r\n",
    b"Transfer-Encoding: identity, chunked\r\n", b"Transfer-Encoding: chunked,\r\n", b"Transfer-Encoding:chunked\r\n",
]  # fmt: skip
ODD_LENGTHS: Final = [
    b"+%d", b"-%d", b"%d, %d", b"%d %d", b"0x%d", b"%d;", b"%d\x00", b"%d.0", b"%de0", b"", b"\xd9\xa5", b"%d\r\n 0",
    b"%d\r\nContent-Length: %d", b"%d\r\nContent-Length: 0", b"0\r\nContent-Length: %d", b"9" * 30, b"0%d", b"%d ",
    b"\t%d", b"%d_0", b"%d,", b",%d", b"%d\rX: y", b"%d\nContent-Length: 0",
]  # fmt: skip
ODD_SIZES: Final = [
    b"0x%x", b"+%x", b"-%x", b"%x ", b" %x", b"%x\t", b"g", b"", b"F" * 17, b"F" * 40, b"%x;a=b", b"%x;", b";%x",
    b"%x\x00", b"%x\r", b"%x,", b"%x %x", b"0%x", b"00000000000000000000%x", b'%x;a="\n"', b"%x;a=b\r", b"\r\n%x",
    b"\n%x",
]  # fmt: skip
ODD_LINES: Final = [
    b"POST  / HTTP/1.1", b"POST / HTTP/1.1 ", b"POST / HTTP/1.2", b"POST / HTTP/2.0", b"POST / HTTP/0.9", b"POST /",
    b"post / HTTP/1.1", b"POST\t/ HTTP/1.1", b"POST /\x00 HTTP/1.1", b"POST /\t HTTP/1.1", b"POST / http/1.1",
    b"POST x HTTP/1.1", b"POST http://evil.example/ HTTP/1.1", b"POST http://localhost/ HTTP/1.1",
    b"POST http://a@localhost/ HTTP/1.1", b"CONNECT evil.example:80 HTTP/1.1", b"OPTIONS * HTTP/1.1",
    b"POST //evil.example/ HTTP/1.1", b"POST ?x HTTP/1.1", b"PRI * HTTP/2.0", b"POST /%0d%0aX:%20y HTTP/1.1",
    b"POST /a/../b HTTP/1.1", b"POST /#x HTTP/1.1", b"POST / HTTP/1.1\nX: y", b"POST / HTTP/1.0", b"HEAD / HTTP/1.1",
    b"BREW / HTTP/1.1", b"\r\nPOST / HTTP/1.1", b"\nPOST / HTTP/1.1", b" POST / HTTP/1.1", b"POST / HTTP/1.1\rX: y",
    b"POST /\xff HTTP/1.1", b"POST / HTTP/1,1", b"POST / HTTPS/1.1", b"POST / HTTP/11", b"POST / HTTP/1.1\x0b",
]  # fmt: skip
ODD_FIELDS: Final = [
    b"Transfer_Encoding: chunked\r\n", b"Host: evil.example\r\n", HOST, b"Host:\r\n", b"Host: a b\r\n",
    b"Host: x@localhost\r\n", b"Host: localhost, evil\r\n", b"Host : localhost\r\n", b"X\r\n", b": y\r\n",
    b"X Y: z\r\n", b"X\x00: y\r\n", b"X: \x00\r\n", b"X:\x7f\r\n", b"X: y\r\n z\r\n", b"\xff: y\r\n", b"X: \xff\r\n",
    b"X:y\n", b"X: y\r", b"Connection: close\r\n", b"Connection: Content-Length\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n", b"Expect: x\r\n", b"X-HTTP-Method-Override: DELETE\r\n",
    b"Trailer: Content-Length\r\n", b"TE: trailers\r\n", b"Content-Encoding: gzip\r\n",
    b"Content-Type: multipart/byteranges; boundary=x\r\n",
]  # fmt: skip


def corpus() -> list[bytes]:
    """Return requests whose end two servers may see in different places; what must be in the body is a request too."""
    length = len(SMUGGLED)
    sized = b"Content-Length: %d\r\n" % length
    post, chunks = b"POST / HTTP/1.1\r\n" + HOST, b"%x\r\n" % length + SMUGGLED + b"\r\n0\r\n\r\n"
    # Whoever believes the one ends where the other goes on.
    short, hidden = b"Content-Length: 4\r\n", b"0\r\n\r\n" + SMUGGLED
    found = []
    for coding in [*ODD_CODINGS, CHUNKED]:
        found += [
            post + coding + b"\r\n" + chunks,
            post + coding + short + b"\r\n" + chunks,
            post + short + coding + b"\r\n" + chunks,
            post + coding + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden,
            post + b"Content-Length: %d\r\n" % len(hidden) + coding + b"\r\n" + hidden,
        ]
    # HTTP/1.0 knows no chunks.
    found += [post.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + chunks]
    for text in ODD_LENGTHS:
        found.append(post + b"Content-Length: " + text.replace(b"%d", b"%d" % length) + b"\r\n\r\n" + SMUGGLED)
    for text in ODD_SIZES:
        begun = post + CHUNKED + b"\r\n" + text.replace(b"%x", b"%x" % length)
        found += [begun + end + SMUGGLED + b"\r\n0\r\n\r\n" for end in (b"\r\n", b"\n")]
    for end in (
        b"\n0\r\n\r\n",
        b"0\r\n\r\n",
        b"\r\n0\n\n",
        b"\r\n0\r\nContent-Length: 9\r\n\r\n",
        b"\r\n0\r\nX\r\n\r\n",
        b"\r\n-0\r\n\r\n",
    ):
        found.append(post + CHUNKED + b"\r\n%x\r\n" % length + SMUGGLED + end)
    found += [line + b"\r\n" + HOST + sized + b"\r\n" + SMUGGLED for line in ODD_LINES]
    found += [first + sized + b"\r\n" + SMUGGLED for first in (b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\n" + HOST)]
    for field in ODD_FIELDS:
        found += [post + field + sized + b"\r\n" + SMUGGLED, post + sized + field + b"\r\n" + SMUGGLED]
    return found


async def outcome(port: int, case: bytes, *, is_cut: bool) -> tuple[bytes, list[int]]:
    # In one packet, or its body and the next request in others: parsers begin anew with what comes later.
    head, end, rest = case.partition(b"\r\n\r\n")
    pieces = [head + end, rest, LAST] if is_cut else [case + LAST]
    return case, statuses(await exchange(port, *pieces))


async def test_no_request_is_hidden_in_another(port: int, asked: list[str], hurry: None) -> None:
    """Each is refused and the connection closed, or it is one request, and the next is the one that was sent next."""
    del hurry
    every = [(case, is_cut) for case in corpus() for is_cut in (False, True)]
    assert len(every) > 500
    for some in (every[start : start + 100] for start in range(0, len(every), 100)):
        found = await asyncio.gather(*(outcome(port, case, is_cut=is_cut) for case, is_cut in some))
        for case, answers in found:
            # An answer to a HEAD is one as well; and 100 is none.
            final = [status for status in answers if status >= 200]
            assert (len(final) == 1 and final[0] < 500) or (len(final) == 2 and final[1] == 200), (case, answers)
            assert all(status < 500 for status in final), (case, answers)
    assert "smuggled" not in asked


@pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed (Debian: apt install haproxy)")
async def test_nor_behind_haproxy(port: int, asked: list[str], tmp_path: Path) -> None:
    """Row 33: the same, where connections to us are anybody's: what one hides would be answered to the next."""
    async with balanced([port], tmp_path, check=False) as outside:
        clean = b"GET /clean HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
        cases = [*corpus()]
        for some in (cases[start : start + 25] for start in range(0, len(cases), 25)):
            sent = (outcome(outside, case, is_cut=True) for case in some)
            # Of some, HAProxy has enough before they are whole.
            found = await asyncio.gather(*sent, return_exceptions=True)
            assert all(isinstance(one, tuple | ConnectionError) for one in found), found
            assert all(one.endswith("HAProxy") for one in asked), some
            asked.clear()
            for _ in range(3):
                assert statuses(await exchange(outside, clean)) == [200], some
            assert asked == ["clean HAProxy"] * 3


async def test_what_is_behind_a_body_is_no_header(port: int) -> None:
    """A proxy that says for whom it speaks passes on what its client says there."""
    head, body = b"POST /names HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n", b"2\r\n{}\r\n0\r\n"
    trailer = b"X-Forwarded-For: 198.51.100.7\r\nAuthorization: Bearer x\r\nHost: evil.example\r\n\r\n"
    for pieces in ([head + body + trailer + LAST], [head, body, trailer + LAST]):
        said = await exchange(port, *pieces)
        assert statuses(said) == [200, 200]
        assert b'["host","transfer-encoding"]' in said
    # Behind another request, where it has come before anybody looks.
    said = await exchange(port, (head + body + trailer) * 3 + LAST)
    assert statuses(said) == [200] * 4
    assert said.count(b'["host","transfer-encoding"]') == 3


ENDLESS: Final = {
    "fields of a trailer": (b"0\r\n", b"ab:cd\r\n", 431, "head-too-large"),
    "one field": (b"0\r\nX-Field: ", b"y" * 1000, 400, "bad-request"),
    "an extension": (b"1;", b"y" * 1000, 400, "bad-request"),
}
FORBIDDEN: Final = [b"Connection: close", b"Proxy-Connection: close", b"connection: x", b"Upgrade: h2c"]


@pytest.mark.parametrize("field", FORBIDDEN)
async def test_what_must_not_be_behind_a_body(port: int, field: bytes) -> None:
    """The parser would end the connection with it, and swallow the next request, which may be another client's."""
    head = b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n2\r\n{}\r\n0\r\n"
    problem(await exchange(port, head + field + b"\r\n\r\n" + LAST), 400, "bad-request")
    said = await exchange(port, head.replace(b"POST /", b"POST /early"), field + b"\r\n\r\n" + LAST)
    assert statuses(said)[:1] in ([200], [400])
    assert len(statuses(said)) == 1


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_is_around_a_body_has_a_size(port: int, name: str) -> None:
    """Whatever the size of the body, and also behind an answer for which nobody has read it."""
    begin, more, status, code = ENDLESS[name]
    head = b" HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n"
    pieces = [more * (40_000 // len(more))] * 200
    before = peak()
    problem(await exchange(port, b"POST /" + head + b"2\r\n{}\r\n" + begin, *pieces), status, code)
    body = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    assert statuses(await exchange(port, b"POST /early" + head + body + begin, *pieces)) == [200]
    assert peak() - before <= 5 * 1024
    # Small chunks are a slow way to say something, and no more than that.
    small = b"POST /" + head + b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n"
    assert statuses(await exchange(port, small, LAST)) == [200, 200]


EXACT: Final = [
    (b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n", [400]),
    (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n", [400]),
    (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", [400]),
    (b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n", [400]),
    (b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n", [200, 200]),
    (b"GET / HTTP/1.1\r\n\r\n", [400, 200]),
    (b"GET / HTTP/1.1\r\n" + HOST * 2 + b"\r\n", [400, 200]),
    (b"GET / HTTP/1.1\r\nHost:\r\n" + HOST + b"\r\n", [400, 200]),
    (b"GET / HTTP/1.0\r\n\r\n", [200]),
    (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", [421, 200]),
    (b"GET http://evil.example/ HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    (b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", [421, 200]),
    (b"GET http://LocalHost/ HTTP/1.1\r\n" + HOST + b"\r\n", [200, 200]),
    (b"GET http://localhost\\@evil.example/ HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", [200]),
    (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", [200]),
    (b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\nx", [400]),
    (b"GET /a%2Fb HTTP/1.1\r\n" + HOST + b"\r\n", [404, 200]),
    (b"GET /last%0a HTTP/1.1\r\n" + HOST + b"\r\n", [422, 200]),
    (b"GET /%00 HTTP/1.1\r\n" + HOST + b"\r\n", [422, 200]),
    (b"GET /a%20b%C3%BC HTTP/1.1\r\n" + HOST + b"\r\n", [200, 200]),
]


@pytest.mark.parametrize(("request_", "answers"), EXACT)
async def test_what_is_no_request_of_ours(port: int, request_: bytes, answers: list[int]) -> None:
    assert statuses(await exchange(port, request_ + LAST)) == answers


SLOW: Final = {
    # What is sent at once, what then again and again, and the answer; None: there is none.
    "nothing": (b"", b"", None),
    "half a head": (b"GET / HTTP/1.1\r\nHost: loc", b"", 408),
    "a head by letters": (b"GET / HTTP/1.1\r\nHost: l", b"o", 408),
    "only newlines": (b"", b"\r\n", None),
    "half a body": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 60000\r\n\r\n" + b"x" * 30_000, b"", 408),
    "a body by letters": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 60000\r\n\r\n", b"x", 408),
    "chunks by letters": (b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n", b"1\r\nx\r\n", 408),
    "too much, slowly": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 90000\r\n\r\n", b"x", 413),
    "nothing more": (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", b"", 200),
    "a next head": (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nGET / HT", b"", [200, 408]),
    "an answered body": (b"POST /x%2Fy HTTP/1.1\r\n" + HOST + b"Content-Length: 90\r\n\r\n", b"", 404),
}


async def slow(port: int, begin: bytes, more: bytes, pause: float = 0.05) -> bytes:
    """Send slowly, and read until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begin)
    reading = asyncio.ensure_future(reader.read())
    while not (await asyncio.wait([reading], timeout=pause))[0]:
        writer.write(more)
    writer.close()
    try:
        return reading.result()
    except ConnectionError:
        return b""


async def test_whoever_is_slow_is_let_go(port: int, hurry: None) -> None:
    del hurry
    names = [*SLOW] * 3
    found = await asyncio.wait_for(asyncio.gather(*(slow(port, *SLOW[name][:2]) for name in names)), 5)
    for name, said in zip(names, found, strict=True):
        wanted = SLOW[name][2]
        assert statuses(said) == (wanted if isinstance(wanted, list) else [wanted] if wanted else []), name
        if wanted == 408:
            problem(said, 408, "request-too-slow")


async def test_while_we_hang_nobody_is_slow(port: int, hurry: None) -> None:
    del hurry
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /")
    await asyncio.sleep(0.05)
    time.sleep(1)  # noqa: ASYNC251  # it is the loop that is to hang, as when a laptop sleeps
    await asyncio.sleep(0.05)
    writer.write(b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert statuses(await reader.read()) == [200]
    writer.close()


async def test_whoever_does_not_read_is_let_go(port: int, hurry: None) -> None:
    del hurry
    for end in (b"", b"Connection: close\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /big HTTP/1.1\r\n" + HOST + end + b"\r\n")
        await reader.readexactly(100)
        # Its end comes although nobody reads up to it: the connection is reset.
        await asyncio.wait_for(lost(writer), 5)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(32 << 20)


@pytest.mark.skipif(not THOROUGH, reason="a quarter of a minute of slow clients: CI's second run has them")
async def test_five_hundred_slow_clients(apictl: Apictl, environment: dict[str, str]) -> None:
    """Row 32, with the real server and its real patience: others are answered meanwhile, and the slow are gone."""
    kinds = ["a head by letters", "half a body", "a body by letters", "chunks by letters", "nothing"]
    with serving("serve", environment=environment, start=apictl.start) as server:
        assert server.get("/health/ready")[0] == 200
        # It is made when somebody first asks for it, which takes half a second.
        assert server.get("/openapi.json")[0] == 200
        number = int(server.url.rpartition(":")[2])
        started = asyncio.get_running_loop().time()
        begun = [(SLOW[kind][0].replace(b"POST / ", b"POST /v1/users "), SLOW[kind][1]) for kind in kinds]
        every = [asyncio.ensure_future(slow(number, *begun[n % 5], pause=0.5)) for n in range(400)]
        every += [asyncio.ensure_future(unread(number)) for _ in range(100)]
        # They close when they are told to.
        gone = asyncio.gather(*every)
        took = []
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
            while not gone.done():
                asked = asyncio.get_running_loop().time()
                ready = await http.get("/health/ready")
                assert ready.status_code == 200, ready.text
                took.append(asyncio.get_running_loop().time() - asked)
                await asyncio.sleep(0.005)
        lasted = asyncio.get_running_loop().time() - started
        answers = [statuses(said) for said in await gone]
    # The deadline of the request may be first.
    ended = [
        answer in ([408], [504]) if kinds[n % 5] != "nothing" else answer == []
        for n, answer in enumerate(answers[:400])
    ]
    assert all(ended), answers[:20]
    assert lasted <= 15, lasted
    assert sorted(took)[len(took) * 99 // 100] <= 0.2, (len(took), max(took))


async def unread(port: int) -> bytes:
    """Ask for what no buffer holds, read nothing, and wait until the other side gives up."""
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        own.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(own, ("127.0.0.1", port))
        await loop.sock_sendall(own, (b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 60)
        while True:
            try:
                own.send(b"\r\n")
            except BlockingIOError:
                pass
            except ConnectionError:
                return b""
            await asyncio.sleep(0.1)


async def lost(writer: asyncio.StreamWriter) -> None:
    """Wait until what is written goes nowhere."""
    while not writer.transport.is_closing():
        writer.write(b"\r\n")
        await asyncio.sleep(0.02)


async def test_whoever_is_steady_is_not(port: int, hurry: None, small: Application) -> None:
    """A slow line: for longer than patience lasts at once, but never below the least rate."""
    del hurry
    small.max_body_bytes = 1 << 20
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 60000\r\n\r\n")
    for _ in range(30):
        writer.write(b"x" * 2000)
        await asyncio.sleep(0.04)
    assert statuses(await reader.read()) == [200]
    writer.close()


@pytest.mark.parametrize("coding", [b"Content-Length: 67108864", b"Transfer-Encoding: chunked"])
async def test_too_much_is_told_while_it_is_sent(port: int, coding: bytes) -> None:
    """Sent whole without looking, as many clients do; a reset would take the answer away."""
    piece = b"x" * (1 << 16) if b"Length" in coding else b"10000\r\n" + b"x" * (1 << 16) + b"\r\n"
    before = peak()
    said = await exchange(port, b"POST / HTTP/1.1\r\n" + HOST + coding + b"\r\n\r\n", *[piece] * 1023)
    problem(said, 413, "body-too-large")
    assert peak() - before <= 5 * 1024


def peak() -> int:
    """Return the most memory that this process has had, in KiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


async def test_a_proxy_s_connection_is_kept_for_longer(monkeypatch: pytest.MonkeyPatch, small: Application) -> None:
    """Balancers reuse them for a minute; one that we close first is a request lost."""
    monkeypatch.setattr(connections, "SECOND", 0.02)
    monkeypatch.setitem(SECONDS, Phase.IDLE, 0.1)
    small.add_middleware(Forwarded, proxies=["127.0.0.1"])
    async with listening(small) as number:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        for _ in range(2):
            writer.write(b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n")
            await reader.readuntil(b"}")
            await asyncio.sleep(0.3)
        writer.close()
