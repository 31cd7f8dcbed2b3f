"""What a server says of itself: a line each, whatever is sent, and nothing in it that was secret (row 35)."""

import json
import logging
import random
import re
import socket
import sys
import warnings
from typing import Any, Final
from urllib.parse import quote_from_bytes

import asyncpg
import httpx2
import pytest

from api.core.logs import LONGEST, REQUEST_ID, Lines, as_json, as_text
from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.cases import THOROUGH
from tests.support.processes import Apictl
from tests.support.server import serving

REQUESTS: Final = 10_000 if THOROUGH else 150
HOSTILE: Final = (
    b'\n{"level":"error","message":"forged"}\n',
    b"\r\nERROR:    forged",
    b"\x1b[2J\x1b]0;title\x07",
    "\u2028\u2029\x85{}".encode(),
    b"\xed\xa0\x80\xff\xfe",
    b"\x00\x9b31m",
    b'", "status": 200, "x": "',
    "💥".encode() * 700,
    b"%(message)s {0} %s",
)


def sent(dice: random.Random) -> bytes:
    """Return a request that has something hostile in its path, its query and its headers."""
    path, query, agent = (b"".join(dice.sample(HOSTILE, 2)) for _ in range(3))
    target = f"/v1/users/{quote_from_bytes(path)}?q={quote_from_bytes(query)}&token=CANARY"
    where = dice.choice([target, target.replace("/v1/users/", "/nowhere/"), "/health/live", "/v1/users/me"])
    agent = re.sub(rb"[\x00\r\n]", b"", agent)
    lines = [
        f"{dice.choice(['GET', 'PUT', 'MKCOL'])} {where} HTTP/1.1".encode(),
        b"Host: x",
        b"Connection: close",
        b"User-Agent: " + agent * dice.choice([1, 30]),
        b"X-Request-Id: " + agent[:40],
        b"Authorization: Bearer CANARY" + agent[:100],
    ]
    return b"\r\n".join([*lines, b"", b""])


def records(printed: str) -> list[dict[str, Any]]:
    """Return the lines of a log; whatever somebody takes for the end of a line, each is whole."""
    assert printed.isascii()
    assert max(map(len, printed.splitlines())) <= LONGEST
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.parametrize("workers", ["2"])
def test_whatever_is_sent(apictl: Apictl, environment: dict[str, str], superuser: User, workers: str) -> None:
    dice, answered = random.Random(35), 0  # noqa: S311 - the same each time
    own = environment | {"APICTL_LOG_REQUESTS": "true"}
    with serving("serve", "--workers", workers, environment=own, start=apictl.start) as server:
        assert server.get("/health/ready")[0] == 200
        port = int(server.url.rpartition(":")[2])
        for _ in range(REQUESTS):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(sent(dice))
                with connection.makefile("rb") as answer:
                    answered += b"x-request-id:" in answer.read()
        form = {"grant_type": "password", "username": SUPERUSER, "password": "CANARY"}
        with httpx2.Client(base_url=server.url, trust_env=False) as client:
            refused = client.post("/v1/auth/token", data=form, headers={"X-Request-Id": "mine-1"})
            token = client.post("/v1/auth/token", data=form | {"password": PASSWORD}).json()["access_token"]
            asking = {"Authorization": f"Bearer {token}"}
            assert client.get(f"/v1/users/{SUPERUSER}", headers=asking).status_code == 200
        _, printed = server.end()
    lines = records(printed)
    told = [line for line in lines if line["logger"] == "apictl.requests"]
    assert answered > REQUESTS / 2
    # What is no request by then (its address is too long, say) has a line of another kind.
    unread = [
        line
        for line in lines
        if re.search(r"(target-too-long|head-too-large|bad-request): .* \(from ", line["message"])
    ]
    assert len(told) + len(unread) == answered + 4
    assert {line["status"] for line in lines if "status" in line} >= {200, 400, 401, 404, 405}
    mine = next(line for line in told if line["request_id"] == "mine-1")
    assert (mine["code"], mine["status"], refused.headers["X-Request-Id"]) == ("invalid-grant", 400, "mine-1")
    shown = next(line for line in told if line["message"] == "GET /v1/users/{user} 200")
    assert shown["user_id"] == str(superuser.id)
    assert (shown["method"], shown["route"]) == ("GET", "/v1/users/{user}")
    # Where nobody serves it, there is no route; and what somebody makes up is no method.
    assert {line["method"] for line in told} >= {"GET", "PUT", "POST", "?"}
    routed = [line for line in told if "route" in line]
    assert all(line["message"] == f"{line['method']} {line['route']} {line['status']}" for line in routed)
    assert any("/nowhere/" in line["message"] for line in told if "route" not in line)
    assert "forged" not in {line.get("message") for line in lines}
    for secret in ("CANARY", PASSWORD, token, SUPERUSER):
        assert secret not in printed


async def test_a_line_from_before_it_serves_is_of_the_same_form(
    apictl: Apictl, environment: dict[str, str], superuser: User, database: asyncpg.Connection
) -> None:
    await apictl("rotate-keys", "--wait", "0", environment=environment)
    await database.execute("UPDATE signing_keys SET sealed = 'x' WHERE number = 2")
    # Why a start fails is the command's answer, and no line of its log.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = await apictl("serve", "--port", str(taken.getsockname()[1]), environment=environment)
    log, _, answer = ended.err.partition("error: ")
    assert [line["level"] for line in records(log) if "A later signing key" in line["message"]] == ["error"]
    assert answer.startswith("Cannot listen")


def test_serve_has_no_line_for_a_request_unless_asked(apictl: Apictl, environment: dict[str, str]) -> None:
    own = environment | {"APICTL_LOG_FORMAT": "text"}
    with serving("serve", environment=own, start=apictl.start) as server:
        assert server.get("/health/ready")[0] == 200
        _, printed = server.end()
    assert "INFO:     Application startup complete." in printed.splitlines()
    assert "/health/ready" not in printed


def test_a_long_record_is_one_line() -> None:
    def fail(depth: int) -> None:
        if depth == 0:
            raise ValueError("💥\n" * 3000)
        fail(depth - 1)

    REQUEST_ID.set("r-1")
    for message in ("short", "💥" * 5000, "\udcff\u2028\n" * 300):
        try:
            fail(40)
        except ValueError:
            record = logging.LogRecord("apictl", logging.ERROR, "", 0, message, (), sys.exc_info())
        line = as_json(record, "now")
        assert (len(line) <= LONGEST, line.count(b"\n"), line.isascii()) == (True, 1, True)
        found = json.loads(line)
        assert (found["message"][:2], found["level"], found["request_id"]) == (message[:2], "error", "r-1")
        assert found["traceback"]
        first, *more = as_text(record, "now").decode("ascii").splitlines()
        assert first.startswith("ERROR:    ")
        assert first.endswith(" [r-1]")
        # Nobody takes a line of a traceback for one of ours.
        assert all(one.startswith("  ") for one in more)


def test_a_warning_is_a_record_too(capfd: pytest.CaptureFixture[str]) -> None:
    """Python prints warnings itself, on two lines, unless somebody takes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        handler, logger = Lines("json"), logging.getLogger("py.warnings")
        logger.addHandler(handler)
        try:
            warnings.warn_explicit("odd\nodder", UserWarning, "x.py", 1)
        finally:
            logger.removeHandler(handler)
            logging.captureWarnings(capture=False)
    (line,) = capfd.readouterr().err.splitlines()
    assert "odd\nodder" in json.loads(line)["message"]
