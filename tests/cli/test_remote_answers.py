"""What a command does with a server that does not answer as ours, with tokens, and with settings that contradict."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from api.core.errors import ApictlError, Kind
from api.main import create_app as _failures  # noqa: F401 - every failure that a server can answer with
from api.users.models import User
from cli.asking import refusal
from tests.conftest import SUPERUSER
from tests.project.test_startup import LIBRARIES, needless
from tests.support.processes import Apictl, Finished, bare_environment
from tests.support.server import serving
from tests.support.terminal import terminal

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CANARY: Final = "apictl_key_canary.that-nobody-sees"
HTML: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<ht>"
BUSY: Final = b"HTTP/1.1 503 No\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<ht>"
BUG: Final = json.dumps({"code": "internal-error", "title": "x", "detail": "x", "request_id": "abc"}).encode()
HALF: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nemail\n\r\n"

USER: Final[dict[str, Any]] = {
    # A newer server says more, which stops nothing.
    "new": 1,
    "id": "01900000-0000-7000-8000-000000000001",
    "kind": "person",
    "email": "a@b.co",
    "name": None,
    "full_name": "",
    "is_active": True,
    "version": 1,
    "is_superuser": False,
    "roles": [],
    "email_verified_at": None,
    "last_login_at": None,
    **dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00Z"),
}


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has neither a database nor a secret key, but a token."""
    # A proxy that a token would be shown to, were it asked.
    proxy = {"http_proxy": "http://127.0.0.1:1", "NO_PROXY": "", "no_proxy": ""}
    return bare_environment(XDG_CONFIG_HOME=str(tmp_path / "config"), APICTL_TOKEN=CANARY, **proxy)


async def asked(
    apictl: Apictl, environment: dict[str, str], answer: bytes | None, *words: str, stdin: str | None = None
) -> tuple[Finished, list[str]]:
    """Run a command on a server that answers everything so, or never; return how it ended, and what was asked."""
    requests: list[str] = []
    keys: set[str] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert f"Authorization: Bearer {CANARY}" in head
        keys.update(line for line in head.splitlines() if line.startswith("Idempotency-Key: "))
        requests.append(head.splitlines()[0].removesuffix(" HTTP/1.1"))
        if answer is not None:
            writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        ended = await apictl(*words, "--server", url, environment=environment, stdin=stdin)
    assert CANARY not in ended.out + ended.err
    assert "Traceback" not in ended.err
    # Whatever is sent again is sent as what it was before.
    if len(requests) > 1 and not requests[0].startswith("GET"):
        assert len(keys) == 1
    return ended, requests


# What a server may say that is none of ours, and how often what only reads is asked then.
ANSWERS: Final[dict[str, tuple[bytes | None, int]]] = {
    "html": (HTML, 1),
    "busy": (BUSY, 3),
    "busy for long": (b"HTTP/1.1 503 No\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n", 1),
    "500": (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", 1),
    "bug": (b"HTTP/1.1 500 Oh\r\nContent-Length: %d\r\n\r\n%b" % (len(BUG), BUG), 1),
    "half": (b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{", 3),
    "redirect": (
        b"HTTP/1.1 302 Go\r\nLocation: https://elsewhere.example/\x1b[2J\r\nContent-Length: 0\r\n\r\n", 1
    ),
    "40 MB": (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (40 << 20), 1),
    "other": (b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"id": null}', 1),
    "deep": (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, 1),
    "401": (b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n[]", 1),
    "nothing": (None, 3),
}  # fmt: skip


async def test_a_server_that_is_none_of_ours(apictl: Apictl, elsewhere: dict[str, str]) -> None:
    # At once: some are asked again after a while.
    said = await asyncio.gather(
        *(asked(apictl, elsewhere, answer, "show-user", "ada@example.com") for answer, _ in ANSWERS.values())
    )
    for (name, (_, attempts)), (ended, requests) in zip(ANSWERS.items(), said, strict=True):
        told = (ended.code, ended.out, "hint: " in ended.err, "\x1b" in ended.err)
        assert told == (7, "", True, False), (name, ended)
        assert requests == ["GET /v1/users/ada@example.com"] * attempts, name


async def test_what_changes_something_is_asked_again_under_its_key(
    apictl: Apictl, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "state.yaml").write_text("owner: x", encoding="utf-8")
    looking = ("plan", "-f", str(tmp_path / "state.yaml"))
    for line, may_be_done in ((looking, False), (("activate-user", "ada@example.com"), True)):
        ended, _ = await asked(apictl, elsewhere, ANSWERS["half"][0], *line)
        told = ("broke off its answer" in ended.err, "may have been done" in ended.err)
        assert told == (True, may_be_done), ended.err
    for answer, attempts in ((BUSY, 3), (None, 3), (HTML, 1)):
        ended, requests = await asked(apictl, elsewhere, answer, "activate-user", "ada@example.com")
        assert (ended.code, requests) == (7, ["POST /v1/users/ada@example.com/activate"] * attempts), ended.err
    # It ignores the wish, and did the work.
    body = json.dumps(USER).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    ended, _ = await asked(apictl, elsewhere, answer, "activate-user", "a@b.co")
    assert ended.code == 0, ended.err
    ended, _ = await asked(apictl, elsewhere, answer, "activate-user", "a@b.co", "--dry-run")
    assert (ended.code, "does not say that it undid it" in ended.err) == (7, True), ended.err


async def test_half_an_export_leaves_no_file(apictl: Apictl, elsewhere: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "users.csv"
    target.write_text("before")
    endless = HALF.replace(b"Transfer-Encoding: chunked\r\n\r\n6\r\nemail\n\r\n", b"\r\nemail\n")
    for answer in (HALF, endless, HTML, BUSY):
        ended, _ = await asked(apictl, elsewhere, answer, "export-users", "--to", str(target))
        assert (ended.code, "hint: " in ended.err) == (7, True), ended.err
        assert ([path.name for path in tmp_path.iterdir()], target.read_text()) == (["users.csv"], "before")


async def test_a_server_that_is_not_there(apictl: Apictl, elsewhere: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    ended = await apictl("list-users", "--server", url, environment=elsewhere)
    assert (ended.code, "cannot be reached" in ended.err, time.monotonic() - began < 5) == (7, True, True), ended.err


@pytest.mark.parametrize(
    ("variables", "words", "code", "said"),
    [
        (
            {"APICTL_TOKEN": ""},
            [],
            4,
            "to an API key, or: apictl login http://127",
        ),
        ({"APICTL_TOKEN": "a\r\nX-Other: b"}, [], 2, "What APICTL_TOKEN has is no token"),
        ({"APICTL_TOKEN_FILE": "token"}, [], 2, "The token has two sources"),
        ({"APICTL_TOKEN": "", "APICTL_TOKEN_FILE": "token"}, [], 2, "hint: chmod 600 'token'"),
        ({"APICTL_TOKEN": "", "APICTL_TOKEN_FILE": "none"}, [], 2, "none cannot be read"),
        ({"APICTL_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, [], 12, "name two places to work on"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, [], 12, "and DATABASE_URL of the environment name"),
        # The flag wins over both.
        ({"APICTL_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, ["--server", "http://[::1]:1"], 7, "[::1]:1"),
        ({"APICTL_SERVER": "http://accounts.example.com"}, [], 2, "in the clear"),
        ({"APICTL_SERVER": "accounts.example.com"}, [], 12, "hint: correct APICTL_SERVER of the environment"),
        ({}, ["--as", "ada@example.com"], 2, "--as works on a database only"),
    ],
)
async def test_settings(
    apictl: Apictl, elsewhere: dict[str, str], variables: dict[str, str], words: list[str], code: int, said: str
) -> None:
    Path("token").write_text(CANARY)
    Path("token").chmod(0o644)
    environment = elsewhere | {"APICTL_SERVER": "http://127.0.0.1:1"} | variables
    ended = await apictl("list-users", *words, environment=environment)
    assert (ended.code, said in ended.err, CANARY in ended.err) == (code, True, False), ended.err


async def test_what_works_on_a_database_only_says_so(apictl: Apictl, elsewhere: dict[str, str]) -> None:
    there = {"APICTL_SERVER": "http://127.0.0.1:1"}
    for words in (["rollback", "--yes"], ["check-models"], ["make-migration", "x"], ["serve"], ["quickstart"]):
        ended = await apictl(*words, environment=elsewhere | there)
        assert (ended.code, "on a database only" in ended.err, "hint: " in ended.err) == (2, True, True), ended.err
        ended = await apictl(*words, "--server", "http://127.0.0.1:1", environment=elsewhere)
        assert (ended.code, "works on a database only" in ended.err) == (2, True), ended.err
    for words, hint in (
        (["list-users"], "options come after the command: apictl list-users"),
        (["whoami"], "the server that APICTL_SERVER names"),
        (["show-config"], "the settings of this machine"),
    ):
        line = ["--server", "http://127.0.0.1:1", *words] if words == ["list-users"] else [*words, "--server", "x"]
        ended = await apictl(*line, environment=elsewhere)
        assert (ended.code, hint in ended.err, "database" in ended.err) == (2, True, False), ended.err
    for words in (["migrate", "--check"], ["migrate", "--plan"], ["migrate", "--sql"]):
        ended = await apictl(*words, environment=elsewhere | there)
        assert (ended.code, "work on a database only" in ended.err, "hint: " in ended.err) == (2, True, True), ended.err
    ended = await apictl("import-users", "-", "--results", "out", environment=elsewhere | there, stdin="email\n")
    assert (ended.code, "works on a database only" in ended.err, Path("out").exists()) == (2, True, False), ended.err


@pytest.fixture
async def server(apictl: Apictl, environment: dict[str, str], superuser: User) -> AsyncIterator[str]:
    with serving("serve", environment=environment, start=apictl.start) as started:
        yield started.url


async def test_tokens(
    apictl: Apictl, environment: dict[str, str], elsewhere: dict[str, str], server: str, tmp_path: Path
) -> None:
    """A login that has run out, one at another server, a file, a wrong token; and a prompt that names the server."""
    issued = (await apictl("create-token", SUPERUSER, "-o", "json", environment=environment)).json()
    del elsewhere["APICTL_TOKEN"]
    kept = tmp_path / "config" / "apictl" / "login.json"
    kept.parent.mkdir(parents=True)
    login = {"server": server, "access_token": "run.out.x", "refresh_token": issued["refresh_token"]}
    kept.write_text(json.dumps(login))
    kept.chmod(0o600)
    there = elsewhere | {"APICTL_SERVER": server}
    for words in (["create-user", "ada@example.com", "--no-password"], ["import-users", "-"]):
        ended = await apictl(*words, environment=there, stdin="email\neve@example.com\n")
        assert ended.code == 0, ended.err
        changed = json.loads(kept.read_text())
        assert changed["refresh_token"] != login["refresh_token"]
        login = changed | {"access_token": "run.out.x"}
        kept.write_text(json.dumps(login))
    other = await apictl("list-users", "--server", "http://127.0.0.1:1", environment=elsewhere)
    assert (other.code, "apictl login http://127.0.0.1:1" in other.err) == (4, True), other.err
    file = tmp_path / "token"
    file.write_text(issued["access_token"] + "\n")
    file.chmod(0o600)
    by_file = elsewhere | {"APICTL_TOKEN_FILE": str(file)}
    with terminal("delete-user", "ada@example.com", "--server", server, environment=by_file, start=apictl.start) as it:
        it.wait_for(f"This deletes the user ada@example.com at {server}\\.")
        it.wait_for("to go on: ")
        it.type("no\n")
        assert it.end() == 8
    assert (await apictl("show-user", "ada@example.com", "--server", server, environment=by_file)).code == 0
    who = (await apictl("whoami", "-o", "json", environment=by_file | there)).json()
    assert (who["server"], who["user"]) == (server, SUPERUSER)
    wrong = await apictl("list-users", environment=there | {"APICTL_TOKEN": CANARY})
    assert (wrong.code, CANARY in wrong.err) == (4, False), wrong.err
    # Nothing of a database is imported for it, and nothing that serves.
    found = needless("show-user", SUPERUSER, "-o", "json", among=LIBRARIES | {"rich"}, environment=there | by_file)
    assert not found


def test_every_failure_is_here_what_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process from nothing understands it, which has imported no more than it needs."""
    known = [failure for failure in ApictlError.registry.values() if failure.__module__.startswith("api.")]
    here = {failure.code: failure for failure in known if failure.__module__ == "api.core.errors"}
    assert len(known) > len(here) > 10
    monkeypatch.setattr(ApictlError, "registry", here)
    differ = []
    for failure in known:
        answer = httpx2.Response(failure.kind.status)
        said = refusal(answer, {"code": failure.code, "title": failure.title, "detail": "x", "hint": "y"})
        # A bug there is none of this process.
        wanted = 7 if failure.kind is Kind.INTERNAL else failure.kind.exit_code
        if said.kind.exit_code != wanted or (wanted != 7 and said.detail != "x"):
            differ.append((failure.code, said.kind, failure.kind))
    assert differ == []
