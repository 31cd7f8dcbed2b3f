"""Rows 5 and 25 to 31 of the threat table: nothing that a client can send is a 500, and nothing is half written."""

import asyncio
import base64
import json
import random
import socket
from collections.abc import AsyncIterator
from typing import Any, Final
from unicodedata import category
from urllib.parse import quote_from_bytes

import asyncpg
import httpx2
import pytest

from api.core.passwords import Passwords
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.cases import REQUESTS, cases, count
from tests.support.processes import Apictl

TEXTS: Final = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud800",
    "a\udfffb",
    "\n",
    "\x1b[31m",
    "\u202e",
    "\uffff",
    "\U0010ffff",
    "x" * 60_000,
    "' OR 1=1 --",
    "{{7*7}}",
    "../../etc/passwd",
    "%00",
    "1e400",
]
VALUES: Final[list[Any]] = [
    *TEXTS, None, True, 0, -1, 2**31, -(2**31) - 1, 2**63, -(2**63), -(2**63) - 1, 10**400, -(10**4200),
    1.5, float("nan"), float("inf"), [], ["x"], {}, {"x": "y"},
]  # fmt: skip
# What makes texts hostile: controls, surrogates, marks that join or turn around, digits of other scripts, syntax.
LETTERS: Final = (
    "\x00\x01\x08\x0b\x1b\x7f\x85\xa0\xad\u0130\u0131\u017f\u0301\u0661\u200b\u200d\u2028\u202e\u2066\u212a\ud800"
    "\udbff\udc00\udfff\ufb01\ufdd0\ufeff\uff11\uff20\ufffd\uffff\U000e0001\U0001f469\U0010ffff"
    "'\"\\%_$;:,./?#[]{}<>@+-=*& aA19"
)


def invented(number: int, seed: int) -> list[str]:
    """Return so many texts, the same at every run: letters from everywhere, whose mixture nobody thought of."""
    source = random.Random(seed)  # noqa: S311 - nothing secret
    return ["".join(source.choices(LETTERS, k=source.choice((1, 2, 3, 5, 8, 40, 300)))) for _ in range(number)]


TARGETS: Final = [
    ("POST", "/v1/users", {"email": "ada@example.com", "full_name": "Ada", "password": PASSWORD}),
    ("PATCH", f"/v1/users/{SUPERUSER}", {"email": SUPERUSER, "full_name": "Root"}),
    ("PATCH", "/v1/users/me", {"full_name": "Root"}),
    ("PUT", f"/v1/users/{SUPERUSER}/password", {"password": PASSWORD}),
    ("PUT", "/v1/users/me/password", {"current_password": PASSWORD, "new_password": PASSWORD}),
    ("POST", "/v1/tokens", {"user": SUPERUSER, "label": "x", "scopes": ["users:read"], "expires_in": 60}),
    ("POST", "/v1/invitations", {"email": "ada@example.com", "full_name": "Ada", "roles": []}),
    ("POST", "/v1/auth/register", {"email": "ada@example.com"}),
    ("POST", "/v1/auth/complete-registration", {"token": "x", "password": PASSWORD, "full_name": "x"}),
    ("PUT", "/v1/users/me/email", {"email": "ada@example.com", "current_password": PASSWORD}),
    ("POST", "/v1/roles", {"name": "support", "description": "x", "scopes": ["users:read"]}),
    ("POST", "/v1/service-accounts", {"name": "deploy", "full_name": "x", "roles": []}),
    ("POST", "/v1/signing-keys", {"algorithm": "EdDSA", "wait": 600}),
    ("POST", "/v1/api-keys", {"user": SUPERUSER, "name": "x", "scopes": [], "networks": ["::1"], "expires_in": 60}),
]


def is_problem(answer: httpx2.Response) -> None:
    """Check that a refusal is one of ours, whole, and free of what was sent."""
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["Content-Type"] in {"application/problem+json", "application/json"}
    body = answer.json()
    assert {"type", "title", "status", "code", "detail", "instance", "request_id"} <= set(body)
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert all(set(error) == {"field", "message", "code"} for error in body.get("errors", []))


def has_what_no(field: str, value: str) -> bool:
    """Tell whether there is something in a value that no such field may have; a password is what somebody types."""
    refused = {"Cs"} if "password" in field else {"Cc", "Cs"}
    # Two halves beside each other are a letter, in JSON.
    value = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return "\0" in value or any(category(character) in refused for character in value)


@pytest.mark.parametrize(("method", "path", "body"), TARGETS)
async def test_hostile_values_in_bodies(
    admin: httpx2.AsyncClient, method: str, path: str, body: dict[str, Any]
) -> None:
    values = [*VALUES, *invented(REQUESTS or cases(60), seed=1)]
    count(len(body) * len(values))
    for field in body:
        for number, value in enumerate(values):
            # What must be new is new each time, and who is named is there: it is the value that is refused, or stored.
            fresh = {"email": f"a{number}@example.com", "name": f"a{number}"}
            text = json.dumps(body | {name: fresh[name] for name in fresh if name in body} | {field: value})
            answer = await admin.request(method, path, content=text, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (field, value)
            if answer.status_code >= 400:
                is_problem(answer)
            elif isinstance(value, str) and has_what_no(field, value.strip(" ")):
                pytest.fail(f"{value!r} was taken for {field}")


BODIES: Final = [
    b"", b"{", b"[]", b"null", b'"x"', b"1", b"{}", b"\xff\xfe", b'{"email":"a@example.com"', b"[" * 50_000,
    b'{"a":' * 9_000,
    b'{"email":"\xff@example.com"}', b'{"email":"\\ud800@x.com"}', b'{"email":NaN}',
    b'{"email":1' + b"0" * 4_300 + b"}",
    b'{"email":"a@example.com","email":"b@example.com","x":1}', b'{"email":"a@example.com","\\u0000":1}',
]  # fmt: skip


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "x", ""])
async def test_hostile_bodies(admin: httpx2.AsyncClient, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    for content in BODIES:
        is_problem(await admin.post("/v1/users", content=content, headers=headers))
        is_problem(await admin.post("/v1/auth/token", content=content, headers=headers))


async def test_hostile_values_in_queries_and_paths(admin: httpx2.AsyncClient) -> None:
    values = [
        *TEXTS[:11],
        "x" * 2000,
        str(2**63),
        "-1",
        "0",
        "201",
        "10" * 200,
        "NaN",
        "true",
        "\u0661",
        *invented(REQUESTS or cases(40), seed=2),
    ]
    count(25 * len(values))
    for value in values:
        for field in ("search", "is_active", "sort", "limit", "cursor"):
            sent = value.encode("utf-8", "surrogatepass")
            answer = await admin.get("/v1/users", params=httpx2.QueryParams({field: sent.decode("latin-1")}))
            if answer.status_code != 200:
                is_problem(answer)
        for path in ("/v1/users/{}", "/v1/tokens/{}", "/v1/{}", "/{}"):
            raw = "".join(f"%{byte:02x}" for byte in value.encode("utf-8", "surrogatepass")[:3000])
            for method in ("GET", "PATCH", "DELETE", "PUT", "POST"):
                answer = await admin.request(method, path.format(raw or "%20"))
                if answer.status_code == 307:
                    # The client made `/` of `/../..`.
                    assert answer.headers["Location"] == "/docs"
                else:
                    is_problem(answer)


FORM: Final = (
    "grant_type", "username", "password", "scope", "otp", "refresh_token", "client_id", "client_secret", "device_code",
    "mfa_token",
)  # fmt: skip
HEADERS: Final = ("If-Match", "Prefer", "Idempotency-Key", "X-Request-Id", "User-Agent", "Authorization", "Accept")


async def test_hostile_values_in_forms_and_headers(admin: httpx2.AsyncClient) -> None:
    values = [*TEXTS, "9" * 5000, *invented(REQUESTS or cases(40), seed=3)]
    count((len(FORM) + len(HEADERS)) * len(values))
    good = {"grant_type": "password", "username": "ada@example.com", "password": PASSWORD}
    as_form = {"Content-Type": "application/x-www-form-urlencoded"}
    for value in values:
        sent = value.encode("utf-8", "surrogatepass")
        for field in FORM:
            form = {name: given.encode() for name, given in good.items()} | {field: sent}
            content = "&".join(f"{name}={quote_from_bytes(given)}" for name, given in form.items())
            is_problem(await admin.post("/v1/auth/token", content=content, headers=as_form))
        for name in HEADERS:
            answer = await admin.patch("/v1/users/me", json={"full_name": "Root"}, headers=[(name.encode(), sent)])
            if answer.status_code != 200:
                is_problem(answer)


async def test_unknown_parameters_are_refused(admin: httpx2.AsyncClient) -> None:
    for method, path in (
        ("GET", "/v1/users"),
        ("GET", "/v1/tokens"),
        ("GET", "/v1/roles"),
        ("GET", "/v1/api-keys"),
        ("GET", "/v1/signing-keys"),
        ("GET", "/v1/service-accounts"),
        ("POST", "/v1/users"),
        ("POST", "/v1/service-accounts"),
    ):
        answer = await admin.request(method, path, params={"is_superusr": "true"}, json={"email": "a@example.com"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input"), path
    for number, path in enumerate(("/v1/tokens", "/v1/api-keys", "/v1/roles", "/v1/service-accounts", "/v1/users")):
        answer = await admin.post(path, json={"user": SUPERUSER, "name": "x", "is_superuser": True, "email": "a@b.co"})
        assert (answer.status_code, "is_superuser" in answer.text) == (422, True), (number, path)


async def test_a_body_of_another_type_is_a_415(admin: httpx2.AsyncClient) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "x", None):
        headers = {"Content-Type": kind} if kind else {}
        answer = await admin.post("/v1/users", content=b'{"email":"a@example.com"}', headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type"), kind


CURSORS: Final = [
    "", "x", "=", "W10", "bnVsbA", "MQ", "e30", "W1sxXV0", "\x00", "A" * 999, "WyJlbWFpbCIsMSwieCJd", "é",
    *(
        base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
        for value in [
            ["created_at", "2026-01-01", "0" * 32], ["created_at", "x", "0" * 32], ["created_at", 5, "0" * 32],
            ["created_at", "2026-01-01T00:00:00+00:00", "zz"], ["created_at", None, None], [None, None, None],
            ["created_at", "9999-12-31T23:59:59-23:59", "0" * 32],
            ["created_at", "0001-01-01T00:00:00+23:59", "0" * 32],
            ["email", "\x00", "0" * 32], ["email", "\ud800", "0" * 32], ["email", [], "0" * 32],
            ["id; DROP", "x", "0" * 32],
            ["\ud800", "x", "0" * 32], {"a": 1}, "created_at", 1, [["created_at"], "x", "0" * 32],
        ]
    ),
]  # fmt: skip


async def test_made_up_cursors_are_refused(admin: httpx2.AsyncClient) -> None:
    for cursor in CURSORS:
        for sort in ("created_at", "email"):
            answer = await admin.get("/v1/users", params={"cursor": cursor, "sort": sort})
            is_problem(answer)
            assert answer.json()["code"] in {"bad-request", "invalid-input"}
        is_problem(await admin.get("/v1/tokens", params={"cursor": cursor}))


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ("1", 400),
        ("", 400),
        ('"1', 400),
        ('"1", "2"', 400),
        ("\u00e9", 400),
        ('W/"1"', 412),
        ('"x"', 412),
        ('""', 412),
        ('"-1"', 412),
        ('"' + "9" * 40 + '"', 412),
        ("*", 200),
        ('"1"', 200),
    ],
)
async def test_entity_tags_are_compared_strongly(admin: httpx2.AsyncClient, tag: str, status: int) -> None:
    answer = await admin.patch("/v1/users/me", json={"full_name": "x"}, headers=[(b"If-Match", tag.encode())])
    assert answer.status_code == status, answer.text


async def test_errors_never_repeat_what_was_sent(admin: httpx2.AsyncClient) -> None:
    canary = "c4n4ry-s3cret-password"
    for body in ({"email": canary, "password": canary}, {"email": 1, "password": [canary]}, {"password": {canary: 1}}):
        answer = await admin.post("/v1/users", json=body)
        assert answer.status_code == 422
        assert canary not in answer.text
    form = {"grant_type": "password", "username": canary, "password": canary}
    assert canary not in (await admin.post("/v1/auth/token", data=form)).text


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/users", "application/json"), ("/v1/auth/token", "application/x-www-form-urlencoded")],
)
async def test_a_body_over_the_limit_is_cut_off(admin: httpx2.AsyncClient, path: str, kind: str) -> None:
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        for number in range(64):
            sent.append(number)
            yield b"x" * 1024 * 1024

    headers = {"Content-Type": kind}
    declared = await admin.post(path, content=b"x" * 70_000, headers=headers)
    assert (declared.status_code, declared.json()["code"]) == (413, "body-too-large")
    is_problem(declared)
    streamed = await admin.post(path, content=endless(), headers=headers)
    assert (streamed.status_code, streamed.json()["code"]) == (413, "body-too-large")
    assert len(sent) <= 2, "it was read beyond the limit"


async def test_a_long_password_is_refused_unhashed(admin: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(Passwords, "_check_and_hash", lambda self, password, *_: hashed.append(password))
    for password in ("x" * 257, "\U0001f511" * 257, "\U0001f511" * 250 + "x" * 25, "x" * 4096, "x" * 60_000):
        answer = await admin.post("/v1/users", json={"email": "ada@example.com", "password": password})
        assert (answer.status_code, answer.json()["code"]) == (422, "weak-password")
        change = {"current_password": PASSWORD, "new_password": password}
        refused = (await admin.put("/v1/users/me/password", json=change)).json()
        assert [error["field"] for error in refused["errors"]] == ["new_password"]
    # What is longer than any body is not even read.
    answer = await admin.post("/v1/users", json={"email": "ada@example.com", "password": "x" * (1 << 20)})
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
    assert hashed == []


def cancelled_by_a_timeout() -> TimeoutError:
    """What `asyncio.timeout` raises, and so asyncpg where it cannot connect in time."""
    error = TimeoutError()
    error.__cause__ = asyncio.CancelledError()
    return error


FAULTS: Final = [
    (asyncpg.exceptions.NumericValueOutOfRangeError("x"), 422, "invalid-input"),
    (asyncpg.exceptions.InvalidTextRepresentationError("x"), 422, "invalid-input"),
    (asyncpg.exceptions.UniqueViolationError("x"), 409, "conflict"),
    (asyncpg.exceptions.SerializationError("x"), 503, "database-unreachable"),
    (asyncpg.exceptions.DeadlockDetectedError("x"), 503, "database-unreachable"),
    (asyncpg.exceptions.QueryCanceledError("x"), 504, "database-timeout"),
    (asyncpg.exceptions.LockNotAvailableError("x"), 504, "database-timeout"),
    (asyncpg.exceptions.TooManyConnectionsError("x"), 503, "database-unreachable"),
    (asyncpg.exceptions.AdminShutdownError("x"), 503, "database-unreachable"),
    (asyncpg.exceptions.CannotConnectNowError("x"), 503, "database-unreachable"),
    (asyncpg.exceptions.DiskFullError("x"), 503, "database-unreachable"),
    (asyncpg.exceptions.ReadOnlySQLTransactionError("x"), 503, "database-unreachable"),
    (asyncpg.exceptions.UndefinedTableError("x"), 503, "schema-behind"),
    (asyncpg.exceptions.ConnectionDoesNotExistError("x"), 503, "database-unreachable"),
    (asyncpg.exceptions.InternalClientError("x"), 503, "database-unreachable"),
    (asyncpg.exceptions.InterfaceError("x"), 503, "database-unreachable"),
    (ConnectionRefusedError("x"), 503, "database-unreachable"),
    (socket.gaierror("x"), 503, "database-unreachable"),
    (TimeoutError(), 504, "database-timeout"),
    (cancelled_by_a_timeout(), 504, "database-timeout"),
    (asyncpg.exceptions.SyntaxOrAccessError("x"), 500, "internal-error"),
    (ZeroDivisionError("x"), 500, "internal-error"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "status", "code"), FAULTS, ids=lambda value: type(value).__name__)
async def test_what_the_database_does_has_its_status(
    admin: httpx2.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    status: int,
    code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The fault is the driver's own, raised where the driver raises: as SQLAlchemy asks it, or as we do."""

    async def fail(*_: Any, **__: Any) -> None:
        raise fault

    # Reads the signing keys; what is asked afterwards is who asks, or the list.
    assert (await admin.get("/v1/users/me")).status_code == 200
    for asked in ("prepare", "fetch"):
        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, asked, fail)
            answer = await admin.get("/v1/roles", params={"limit": 7})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert ("Retry-After" in answer.headers) == (status in {503, 504})
        assert "Traceback" not in answer.text
        assert "ZeroDivision" not in answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if status >= 500:
            assert any(answer.headers["X-Request-Id"] in line for line in caplog.messages)


@pytest.mark.parametrize("text", ["\x1b[31mred", "\udcff", "a\tb", "x" * 300, "\u202eabc"])
async def test_the_terminal_refuses_the_same_without_a_traceback(
    apictl: Apictl, environment: dict[str, str], text: str, database: asyncpg.Connection
) -> None:
    for line in (
        ["create-user", text, "--no-password"],
        ["create-user", "ada@example.com", "--no-password", "--full-name", text],
        ["update-user", "ada@example.com", "--email", text],
        ["show-user", text],
        ["delete-user", text, "--yes"],
        ["list-users", "--cursor", text],
        ["list-users", "--limit", text],
        ["list-users", "--sort", text],
        ["list-tokens", text],
        ["revoke-token", text],
        ["create-token", text],
        [text],
    ):
        ended = await apictl(*line, environment=environment)
        assert ended.code in {2, 3, 6}, (line, ended)
        assert ended.out == ""
        assert ended.err.startswith("error: ")
        assert "Traceback" not in ended.err
        assert "\x1b" not in ended.err
    assert await database.fetchval("SELECT count(*) FROM users") == 0


async def test_a_hundred_hostile_requests_at_once_leave_the_server_well(admin: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(
        *(admin.post("/v1/users", content=b'{"email":"\\ud800"}', headers={"Content-Type": "application/json"})
          for _ in range(100))
    )  # fmt: skip
    assert {answer.status_code for answer in answers} == {422}
    assert (await admin.get("/health/ready")).status_code == 200


async def test_a_thousand_unknown_fields_are_not_all_repeated(as_ada: httpx2.AsyncClient) -> None:
    answer = await as_ada.patch("/v1/users/me", json={f"f{number}": 1 for number in range(4000)})
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 50)
