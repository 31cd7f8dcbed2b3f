"""`-v` and `-vv`: what is done, on stderr, and no value of anything."""

import asyncio

import asyncpg
import pytest

from tests.conftest import PASSWORD
from tests.support.processes import Apictl, bare_environment

CREATE = ("create-user", "ada@example.com", "--password-stdin", "-o", "ids")


async def test_a_log_says_what_is_done(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    silent = await apictl(*CREATE, "--dry-run", environment=environment, stdin=PASSWORD)
    assert (silent.code, silent.err) == (0, "")
    tried = await apictl(*CREATE, "--dry-run", "-v", environment=environment, stdin=PASSWORD)
    done = await apictl(*CREATE, "--verbose", environment=environment, stdin=PASSWORD)
    for ended, end in ((tried, "rolled back"), (done, "committed")):
        first, last = ended.err.splitlines()
        assert (ended.code, len(ended.out.splitlines())) == (0, 1)
        assert " ms  connected to postgresql://" in first
        assert last.endswith(f" ms  transaction {end}")
        assert last.split()[0].isdecimal()
    assert await database.fetchval("SELECT count(*) FROM users") == 1
    # What only reads has no transaction.
    shown = await apictl("show-user", "ada@example.com", "-v", environment=environment)
    assert "transaction" not in shown.err


@pytest.mark.parametrize(
    "line", [["show-user", "ada@example.com"], ["list-users"], ["create-token", "ada@example.com"]]
)
async def test_statements_without_values(apictl: Apictl, environment: dict[str, str], line: list[str]) -> None:
    """SQLAlchemy's and our own way to the database: neither says a value."""
    await apictl(*CREATE, environment=environment, stdin=PASSWORD)
    once = await apictl(*line, "-v", environment=environment)
    ended = await apictl(*line, "-vv", "-o", "json", environment=environment)
    assert (ended.code, bool(ended.json())) == (0, True)
    assert "SELECT" not in once.err
    assert any(" ms  SELECT users." in row or "FROM users" in row for row in ended.err.splitlines()), ended.err
    assert "ada@example.com" not in ended.err


async def test_a_failure_is_rolled_back_and_told(apictl: Apictl, environment: dict[str, str]) -> None:
    ended = await apictl("promote-user", "none@example.com", "-vv", environment=environment)
    assert (ended.code, ended.err.splitlines()[-3].endswith("transaction rolled back")) == (3, True), ended.err


async def test_quiet_and_verbose_contradict_each_other(apictl: Apictl, environment: dict[str, str]) -> None:
    ended = await apictl("list-users", "-q", "-v", environment=environment)
    assert (ended.code, ended.out, "contradict" in ended.err) == (2, "", True)


async def test_what_is_asked_of_a_server(apictl: Apictl) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        # Whoever closes before everything is read may take the answer back.
        writer.write_eof()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
        ended = await apictl("login", url, "-vv", environment=bare_environment(NO_PROXY="127.0.0.1"))
    assert (ended.code, f' ms  HTTP Request: POST {url}/v1/auth/device "HTTP/1.1 404' in ended.err) == (7, True), ended
    # What libraries say besides may have headers in it.
    assert all(" HTTP Request: " in line for line in ended.err.splitlines() if " ms  " in line)
