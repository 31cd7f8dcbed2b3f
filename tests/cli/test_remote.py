"""Logging in to a server from a terminal, as whoever sits there does it."""

import asyncio
import json
import re
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import pytest

from api.users.models import User
from tests.conftest import SUPERUSER
from tests.support.processes import Apictl, Finished, bare_environment, run
from tests.support.server import serving


@pytest.fixture
def server(apictl: Apictl, environment: dict[str, str], superuser: User) -> Iterator[str]:
    with serving("serve", environment=environment, start=apictl.start) as started:
        yield started.url


@pytest.fixture
async def impatient(database: asyncpg.Connection) -> None:
    """A device need not wait between its questions."""
    await database.execute('ALTER TABLE device_authorizations ALTER COLUMN "interval" SET DEFAULT 0')


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "config"


@pytest.fixture
def elsewhere(home: Path) -> dict[str, str]:
    """The environment of a machine that has neither a database nor a secret key."""
    return bare_environment(XDG_CONFIG_HOME=str(home), NO_PROXY="127.0.0.1")


async def decide(
    apictl: Apictl,
    environment: dict[str, str],
    server: str,
    database: asyncpg.Connection,
    logging_in: "asyncio.Task[Finished]",
    *,
    how: str = "approve",
) -> Finished:
    """Wait for the code, decide in the user's name, and return how the command ended."""
    async with asyncio.timeout(30):
        while (code := await database.fetchval("SELECT user_code FROM device_authorizations")) is None:
            await asyncio.sleep(0.02)
            assert not logging_in.done(), logging_in.result()
    issued = (await apictl("create-token", SUPERUSER, "-o", "json", environment=environment)).json()
    async with httpx2.AsyncClient(base_url=server, trust_env=False) as client:
        headers = {"Authorization": f"Bearer {issued['access_token']}"}
        assert (await client.post(f"/v1/devices/{code}/{how}", headers=headers)).is_success
    return await logging_in


@pytest.mark.usefixtures("impatient")
async def test_in_and_out(
    apictl: Apictl,
    environment: dict[str, str],
    elsewhere: dict[str, str],
    server: str,
    home: Path,
    database: asyncpg.Connection,
) -> None:
    logging_in = asyncio.create_task(apictl("login", server + "/", "-o", "json", environment=elsewhere))
    ended = await decide(apictl, environment, server, database, logging_in)
    assert (ended.code, ended.json()["user"], ended.json()["server"]) == (0, SUPERUSER, server)
    assert "/device?user_code=" in ended.err
    kept = home / "apictl" / "login.json"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (kept, kept.parent)] == [0o600, 0o700]
    assert (await apictl("whoami", "-o", "json", environment=elsewhere)).json()["user"] == SUPERUSER
    # The access token runs out: it fetches another, and keeps it.
    before = json.loads(kept.read_text())
    kept.write_text(json.dumps(before | {"access_token": "run.out.x"}))
    assert (await apictl("whoami", environment=elsewhere)).code == 0
    after = json.loads(kept.read_text())
    assert (after["refresh_token"] != before["refresh_token"], len(list(kept.parent.iterdir()))) == (True, 1)
    out = await apictl("logout", "-o", "json", environment=elsewhere)
    assert (out.code, out.json()) == (0, {"server": server, "changed": True})
    assert not kept.exists()
    live = "SELECT count(*) FROM sessions WHERE label = 'device' AND revoked_at IS NULL"
    assert await database.fetchval(live) == 0
    again = await apictl("logout", "-o", "json", environment=elsewhere)
    assert (again.code, again.json()["changed"]) == (0, False)
    nobody = await apictl("whoami", environment=elsewhere)
    assert (nobody.code, "apictl login" in nobody.err) == (4, True)


@pytest.mark.usefixtures("impatient")
async def test_refused(
    apictl: Apictl,
    environment: dict[str, str],
    elsewhere: dict[str, str],
    server: str,
    database: asyncpg.Connection,
) -> None:
    logging_in = asyncio.create_task(apictl("login", server, "--quiet", environment=elsewhere))
    ended = await decide(apictl, environment, server, database, logging_in, how="deny")
    assert (ended.code, "refused" in ended.err) == (4, True)
    # Who is to allow it must be told where, however quiet.
    assert "/device?user_code=" in ended.err
    assert (await apictl("whoami", environment=elsewhere)).code == 4


@pytest.mark.usefixtures("impatient")
async def test_the_session_was_ended_there(
    apictl: Apictl,
    environment: dict[str, str],
    elsewhere: dict[str, str],
    server: str,
    database: asyncpg.Connection,
) -> None:
    logging_in = asyncio.create_task(apictl("login", server, environment=elsewhere))
    assert (await decide(apictl, environment, server, database, logging_in)).code == 0
    await apictl("revoke-tokens", SUPERUSER, "--yes", environment=environment)
    ended = await apictl("whoami", environment=elsewhere)
    assert (ended.code, f"apictl login {server}" in ended.err) == (4, True)
    # A process from nothing, which has imported no more than it needs, understands the refusal too.
    ended = await run("whoami", environment=elsewhere)
    assert (ended.code, f"apictl login {server}" in ended.err) == (4, True), ended.err
    # Nothing is left to end there; here there is.
    assert (await apictl("logout", environment=elsewhere)).code == 0


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://accounts.example.com", 2, "in the clear"),
        ("accounts.example.com", 2, "is not a server's URL"),
        ("https://user:secret@example.com", 2, "is not a server's URL"),
        ("ftp://example.com", 2, "is not a server's URL"),
        ("http://127.0.0.1:1", 7, "cannot be reached"),
        ("http://[::1", 2, "is not a server's URL"),
        ("http://127.0.0.1:99999", 2, "is not a server's URL"),
        ("https://example.com/api", 2, "is not a server's URL"),
        ("https://example.com/#x", 2, "is not a server's URL"),
        ("https://exam\nple.com", 2, "is not a server's URL"),
        ("https://ex\u00e4mple.invalid", 2, "is not a server's URL"),
        ("localhost:8000", 2, "hint: https://localhost:8000, or http:// if it is on this machine"),
        ("http://localhost:8000/docs", 2, "hint: without what comes after the host: http://localhost:8000"),
    ],
)
async def test_no_server_there(apictl: Apictl, elsewhere: dict[str, str], url: str, code: int, said: str) -> None:
    ended = await apictl("login", url, environment=elsewhere)
    assert (ended.code, said in ended.err, "Traceback" in ended.err) == (code, True, False), ended.err


BEGUN: Final = {
    "device_code": "x",
    "user_code": "BCDF-BCDF",
    "verification_uri_complete": "http://127.0.0.1",
    "interval": 0,
    "expires_in": 600,
}
TOKENS: Final = {"access_token": "a", "refresh_token": "r"}


async def log_in_at(
    apictl: Apictl,
    environment: dict[str, str],
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> Finished:
    """Log in to a server that answers each request so; return how it ended."""
    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        return await apictl("login", f"http://127.0.0.1:{port}", environment=environment)


async def asked_for(
    apictl: Apictl,
    environment: dict[str, str],
    *answers: tuple[int, dict[str, Any]],
    last: tuple[int, dict[str, Any]],
    before: Callable[[int], None] = lambda _: None,
) -> tuple[Finished, list[str]]:
    """Log in to a server that answers so, and then always with the last; return how it ended, and what was asked."""
    left, requests = list(answers), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        content = await reader.readexactly(int(length[1])) if length else b""
        requests.append(f"{head.splitlines()[0]} {content.decode()}")
        before(len(requests))
        status, document = left.pop(0) if left else last
        body = json.dumps(document)
        writer.write(f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        writer.close()

    return await log_in_at(apictl, environment, serve), requests


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<ht>",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{",
        b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\n\r\n{"device_code":"","user_code":"","verification_uri_complete":"","interval":""}',
        b'HTTP/1.1 200 OK\r\n\r\n{"device_code":1,"user_code":[],"verification_uri_complete":{},"interval":5}',
        b"\x00\x01\x02",
        b"",
        b"HTTP/1.1 302 Go\r\nLocation: https://elsewhere.example/\x1b[2J\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b'HTTP/1.1 200 OK\r\n\r\n{"interval":1,"expires_in":' + b"9" * 5000 + b"}",
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (2 << 20),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/\x9b31mhtml\r\nContent-Length: 4\r\n\r\n<ht>",
    ],
    ids=range(14),
)
async def test_a_server_that_is_none_of_ours(apictl: Apictl, elsewhere: dict[str, str], answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    ended = await log_in_at(apictl, elsewhere, serve)
    assert (ended.code, "hint: " in ended.err, "Traceback" in ended.err) == (7, True, False), ended.err
    assert "\x1b" not in ended.err
    assert "\x9b" not in ended.err


async def test_a_server_that_is_busy_for_a_moment_is_asked_again(apictl: Apictl, elsewhere: dict[str, str]) -> None:
    """RFC 8628, section 3.5; and whatever a server says, a terminal obeys nothing of it."""
    busy = {"code": "database-unreachable", "detail": "\x1b]0;title\x07"}
    denied = {"code": "access-denied", "detail": "\x1b[2J"}
    ended, requests = await asked_for(apictl, elsewhere, (200, BEGUN), (503, busy), last=(400, denied))
    assert (len(requests), ended.code) == (3, 4), ended.err
    assert "\x1b" not in ended.err
    assert "[2J" in ended.err


async def test_a_server_forges_no_line(apictl: Apictl, elsewhere: dict[str, str], home: Path) -> None:
    for begun, tokens in (
        (BEGUN | {"user_code": "BCDF\nerror: the disk is on fire"}, TOKENS),
        (BEGUN | {"user_code": "BCDF" + " " * 60 + "error: the disk is on fire"}, TOKENS),
        (BEGUN | {"verification_uri_complete": "javascript:alert(1)"}, TOKENS),
        (BEGUN | {"expires_in": 0}, {"access_token": "a\r\nX-Other: b", "refresh_token": "r"}),
        (BEGUN | {"expires_in": 0}, {"access_token": "", "refresh_token": "r"}),
    ):
        ended, _ = await asked_for(apictl, elsewhere, (200, begun), last=(200, tokens))
        assert (ended.code, "fire" in ended.err, (home / "apictl" / "login.json").exists()) == (7, False, False), begun
    me = {"id": "x\nerror: the disk is on fire", "email": "\x9b2Jred\u202e", "name": None}
    ended, _ = await asked_for(apictl, elsewhere, (200, BEGUN), (200, TOKENS), last=(200, me))
    assert ended.code == 0, ended.err
    lines = ended.out.replace("\t", " ").splitlines() + ended.err.splitlines()
    assert [line for line in lines if line.startswith("error:") or not line.isprintable()] == []
    refused = {"code": "access-denied", "detail": "no\nhint: rm -rf /", "hint": "a\nerror: b"}
    ended, _ = await asked_for(apictl, elsewhere, (200, BEGUN), last=(400, refused))
    assert [line.split(":")[0] for line in ended.err.splitlines()[-2:]] == ["error", "hint"], ended.err


async def test_a_server_that_never_decides_is_given_up(apictl: Apictl, elsewhere: dict[str, str]) -> None:
    pending = {"code": "authorization-pending", "error": "authorization_pending", "detail": "Nobody has decided"}
    ended, requests = await asked_for(apictl, elsewhere, (200, BEGUN | {"expires_in": 1}), last=(400, pending))
    assert (ended.code, "Nobody has decided" in ended.err) == (4, True), ended.err
    assert len(requests) > 2


async def test_a_login_is_kept_before_anything_else_is_asked(
    apictl: Apictl, elsewhere: dict[str, str], home: Path
) -> None:
    """Whatever comes after it: a session that is there can be ended."""
    ended, _ = await asked_for(apictl, elsewhere, (200, BEGUN), (200, TOKENS), last=(500, {}))
    assert ended.code == 7, ended.err
    kept = home / "apictl" / "login.json"
    assert json.loads(kept.read_text())["refresh_token"] == "r"
    # The next login ends the one before, where it was; nobody answers there any more.
    ended, _ = await asked_for(apictl, elsewhere, (200, BEGUN), (200, TOKENS | {"refresh_token": "s"}), last=(500, {}))
    assert json.loads(kept.read_text())["refresh_token"] == "s"


async def test_a_session_that_cannot_be_kept_is_ended(apictl: Apictl, elsewhere: dict[str, str], home: Path) -> None:
    def in_the_way(request: int) -> None:
        if request == 2:
            (home / "apictl").rmdir()
            (home / "apictl").write_text("")

    ended, requests = await asked_for(apictl, elsewhere, (200, BEGUN), (200, TOKENS), last=(200, {}), before=in_the_way)
    assert (ended.code, "cannot be locked" in ended.err) == (2, True), ended.err
    assert requests[2:] == ["POST /v1/auth/revoke HTTP/1.1 token=r"]


async def test_what_cannot_be_kept_is_known_before_anybody_allows_it(
    apictl: Apictl, elsewhere: dict[str, str], home: Path, server: str
) -> None:
    home.write_text("in the way")
    ended = await apictl("login", server, environment=elsewhere)
    assert (ended.code, "cannot be read" in ended.err, "Open http" in ended.err) == (2, True, False), ended.err


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("{", 0o600, "damaged"),
        ("[]", 0o600, "damaged"),
        ("{}", 0o600, "damaged"),
        ('{"server": "http://127.0.0.1", "access_token": "a\\r\\nb", "refresh_token": "r"}', 0o600, "damaged"),
        ('{"server": "http://[::1", "access_token": "a", "refresh_token": "r"}', 0o600, "damaged"),
        ("[" * 100_000, 0o600, "damaged"),
        ("{}", 0o644, "Others can read"),
    ],
)
async def test_a_file_that_cannot_be_used(
    apictl: Apictl, elsewhere: dict[str, str], home: Path, text: str, mode: int, said: str
) -> None:
    kept = home / "apictl" / "login.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(text)
    kept.chmod(mode)
    for verb in ("whoami", "logout"):
        ended = await apictl(verb, environment=elsewhere)
        assert (ended.code, said in ended.err) == (2, True), ended.err
