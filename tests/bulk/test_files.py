"""Files of users, imported and exported: at both doors, with rows that are refused, cut off, and two at once."""

import asyncio
import base64
import json
import os
import random
import signal
import stat
from collections.abc import AsyncIterator
from hashlib import pbkdf2_hmac
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from api.bulk import service
from api.bulk.router import pieces
from api.bulk.schemas import ImportOptions
from api.bulk.service import BulkService
from api.config import Settings
from api.core.actor import Actor
from api.core.runtime import Runtime
from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER, log_in
from tests.support.cases import THOROUGH
from tests.support.postgres import somebody_waits
from tests.support.processes import APICTL, Apictl, run
from tests.support.server import resident

FILE: Final = """email,full_name,is_active,roles
ada@example.com,Ada,,support
no address,Nobody,,
BOB@example.com,Bob,false,
ada@example.com,Ada again,,
eve@example.com,Eve,,no-such-role
"""
REPORT: Final = {
    "rows": 5,
    "created": 2,
    "unchanged": 1,
    "failed": 2,
    "errors": [
        {
            "line": 3, "email": "no address", "field": "email", "code": "invalid",
            "message": "an email address must have an @-sign",
        },
        {
            "line": 6, "email": "eve@example.com", "field": "roles", "code": "role-not-found",
            "message": "there is no role no-such-role",
        },
    ],
    "changed": True,
    "dry_run": False,
}  # fmt: skip
PEOPLE: Final = """
    SELECT email, full_name, is_active, is_superuser, roles, version, password_hash, action, target, detail, door
    FROM users LEFT JOIN audit_entries ON target_id = users.id WHERE email <> $1 ORDER BY email
"""


@pytest.fixture
async def support(admin: httpx2.AsyncClient) -> None:
    """A role for the files."""
    answer = await admin.post("/v1/roles", json={"name": "support", "scopes": ["users:read"]})
    assert answer.status_code == 201


async def told(admin: httpx2.AsyncClient, file: str | bytes, **how: Any) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an import over HTTP."""
    answer = await admin.post("/v1/bulk/users", content=file, params=how, headers={"Content-Type": "text/csv"})
    return answer.status_code, answer.json()


@pytest.mark.usefixtures("support")
async def test_both_doors_make_the_same_of_a_file(
    apictl: Apictl, admin: httpx2.AsyncClient, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    assert await told(admin, FILE) == (207, REPORT)
    over_http = await database.fetch(PEOPLE, SUPERUSER)
    assert [(row["email"], row["full_name"], row["is_active"], row["roles"]) for row in over_http] == [
        ("ada@example.com", "Ada", True, ["support"]),
        ("bob@example.com", "Bob", False, []),
    ]
    assert {row["detail"] for row in over_http} == {
        json.dumps({"email": row["email"], "imported": True, "is_superuser": False}) for row in over_http
    }
    await database.execute("DELETE FROM users WHERE email <> $1", SUPERUSER)
    ended = await apictl("import-users", "-", "-o", "json", environment=environment, stdin=FILE)
    assert (ended.code, ended.json()) == (9, REPORT)
    assert ended.err.splitlines() == [
        "-, line 3, email (no address): an email address must have an @-sign",
        "-, line 6, roles (eve@example.com): there is no role no-such-role",
    ]
    on_terminal = await database.fetch(PEOPLE, SUPERUSER)
    assert [dict(row) | {"door": "http"} for row in on_terminal] == [dict(row) for row in over_http]
    assert {row["door"] for row in on_terminal} == {"cli"}
    # Once more: nothing changes, and who is there is left as they are.
    again = REPORT | {"created": 0, "unchanged": 3, "changed": False}
    assert await told(admin, FILE.replace("Bob", "Robert")) == (207, again)
    assert await database.fetch(PEOPLE, SUPERUSER) == on_terminal


@pytest.mark.usefixtures("support")
@pytest.mark.parametrize("how", [{"atomic": "true"}, {"dry_run": "true"}, {"atomic": "true", "dry_run": "true"}])
async def test_all_or_nothing(admin: httpx2.AsyncClient, database: asyncpg.Connection, how: dict[str, str]) -> None:
    before = await database.fetch("SELECT * FROM users"), await database.fetch("SELECT * FROM audit_entries")
    is_dry = "dry_run" in how
    counts = {"created": 0 if "atomic" in how else 2, "changed": "atomic" not in how, "dry_run": is_dry}
    assert await told(admin, FILE, **how) == (207, REPORT | counts)
    after = await database.fetch("SELECT * FROM users"), await database.fetch("SELECT * FROM audit_entries")
    assert after == before
    good = "email\nnew@example.com\n"
    status, report = await told(admin, good, **how)
    # What is tried says what would have become of it, as everywhere.
    assert (status, report["created"], report["changed"]) == (200, 1, True)
    assert await database.fetchval("SELECT count(*) FROM users WHERE email = 'new@example.com'") == (not is_dry)


async def test_a_taken_address_is_refused_where_that_is_asked_for(
    apictl: Apictl, superuser: User, environment: dict[str, str], tmp_path: Path
) -> None:
    Path("users.jsonl").write_text(f'{{"email": "{SUPERUSER}"}}\n{{"email": "ada@example.com"}}\n')
    line = ("import-users", "users.jsonl", "--if-exists", "fail", "--results", "results", "-o", "json")
    ended = await apictl(*line, environment=environment)
    assert (ended.code, ended.json()["created"], ended.json()["errors"][0]["code"]) == (9, 1, "email-taken")
    results = [json.loads(text) for text in Path("results").read_text().splitlines()]
    assert results[1].pop("id")
    assert results == [
        {
            "line": 1, "email": SUPERUSER, "status": "failed", "field": "email", "code": "email-taken",
            "message": "the address belongs to a user already",
        },
        {"line": 2, "email": "ada@example.com", "status": "created"},
    ]  # fmt: skip


async def test_nobody_imports_or_exports_more_than_they_are(
    app: FastAPI, admin: httpx2.AsyncClient, as_ada: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    for name, scopes in (("clerk", ["users:read", "users:write"]), ("boss", ["tokens:write"])):
        await admin.post("/v1/roles", json={"name": name, "scopes": scopes})
    await admin.put("/v1/users/ada@example.com/roles/clerk")
    file = "email,is_superuser,roles\na@example.com,true,\nb@example.com,,boss\nc@example.com,,clerk\n"
    status, report = await told(as_ada, file)
    assert (status, report["created"]) == (207, 1)
    assert [(one["line"], one["field"], one["code"]) for one in report["errors"]] == [
        (2, "is_superuser", "missing-scope"),
        (3, "roles", "missing-scope"),
    ]
    assert (await as_ada.get("/v1/bulk/users")).status_code == 200
    refused = await as_ada.get("/v1/bulk/users", params={"with_hashes": "true"})
    assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope")
    assert await database.fetchval("SELECT count(*) FROM users WHERE is_superuser") == 1


async def test_what_is_exported_is_imported_as_it_was(
    apictl: Apictl, admin: httpx2.AsyncClient, environment: dict[str, str], database: asyncpg.Connection,
    password_hash: str, client: httpx2.AsyncClient,
) -> None:  # fmt: skip
    await admin.post("/v1/roles", json={"name": "support", "scopes": []})
    await database.execute(
        "INSERT INTO users (id, email, full_name, is_active, roles, password_hash, email_verified_at) "
        "SELECT gen_random_uuid(), 'u' || n || '@example.com', '=' || n, n % 2 = 0, '{support}', $1, now() "
        "FROM generate_series(1, 2500) n",
        password_hash,
    )
    columns = "email, full_name, is_active, is_superuser, roles, password_hash, email_verified_at, created_at"
    everybody = f"SELECT {columns} FROM users ORDER BY email"  # noqa: S608 - ours
    before = await database.fetch(everybody)
    for form in ("csv", "jsonl"):
        line = ("export-users", "--format", form, "--with-hashes", "--to", "everybody")
        ended = await apictl(*line, environment=environment)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
        assert stat.S_IMODE(Path("everybody").stat().st_mode) == 0o600
        over_http = await admin.get("/v1/bulk/users", params={"format": form, "with_hashes": "true"})
        assert over_http.content == Path("everybody").read_bytes()
        await database.execute("DELETE FROM users WHERE email <> $1", SUPERUSER)
        ended = await apictl("import-users", "everybody", "-o", "json", environment=environment)
        assert (ended.code, ended.json()["created"], ended.json()["unchanged"]) == (0, 2500, 1)
        assert await database.fetch(everybody) == before
    assert (await log_in(client, "u2@example.com"))["access_token"]
    assert (await apictl("export-users", environment=environment)).out.splitlines()[0].endswith(",created_at")


async def test_a_hash_of_another_system_logs_in_and_becomes_ours(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    digest = pbkdf2_hmac("sha256", PASSWORD.encode(), b"c2FsdA", 1000)
    django = f"pbkdf2_sha256$1000$c2FsdA${base64.b64encode(digest).decode()}"
    file = "email,password_hash\nada@example.com," + django + "\nbob@example.com,5f4dcc3b5aa765d61d8327deb882cf99\n"
    status, report = await told(admin, file)
    assert (status, report["created"], report["errors"][0]["field"]) == (207, 1, "password_hash")
    stored = "SELECT password_hash FROM users WHERE email = 'ada@example.com'"
    assert not (await database.fetchval(stored)).startswith("$argon2id$")
    for _ in range(2):
        await log_in(client, "ada@example.com")
        assert (await database.fetchval(stored)).startswith("$argon2id$")


async def test_two_at_once_import_everybody_once(
    runtime: Runtime, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order: batches that wait for each other's addresses do so in one order."""
    monkeypatch.setattr(service, "BATCH", 50)
    addresses = [f"u{number}@example.com" for number in range(1000)]
    actor = Actor.operator("test")

    async def imported(seed: int) -> int:
        mine = [*addresses]
        random.Random(seed).shuffle(mine)  # noqa: S311 - no secret
        file = "\n".join(["email", *mine]).encode()
        return (await BulkService(runtime, actor).import_users(pieces(file), ImportOptions())).created

    created = await asyncio.gather(*(imported(seed) for seed in range(4)))
    assert sum(created) == await database.fetchval("SELECT count(*) FROM users") == 1000


async def test_imports_that_want_all_or_nothing_take_turns(runtime: Runtime, database: asyncpg.Connection) -> None:
    """In opposite orders they would wait for each other's addresses."""
    addresses = [f"u{number:05}@example.com" for number in range(2 * service.BATCH + 2)]
    actor, how = Actor.operator("test"), ImportOptions(atomic=True)

    async def imported(mine: list[str], how: ImportOptions) -> int:
        file = "\n".join(["email", *mine]).encode()
        return (await BulkService(runtime, actor).import_users(pieces(file), how)).created

    created = await asyncio.gather(
        imported(addresses, how), imported(addresses[::-1], how), imported(addresses, ImportOptions())
    )
    assert sum(created) == await database.fetchval("SELECT count(*) FROM users") == len(addresses)


async def test_a_slow_merge_is_no_failure(settings: Settings, database: asyncpg.Connection) -> None:
    """What a request's statement may take is too little for a few thousand rows."""
    await database.execute("INSERT INTO users (id, email) VALUES (gen_random_uuid(), 'other@example.com')")
    holding = database.transaction()
    await holding.start()
    await database.execute("UPDATE users SET email = 'ada@example.com'")
    async with Runtime.open(settings.model_copy(update={"statement_timeout": 0.2})) as runtime:
        service = BulkService(runtime, Actor.operator("test"))
        importing = asyncio.create_task(service.import_users(pieces(b"email\nada@example.com\n"), ImportOptions()))
        await somebody_waits(database)
        await asyncio.sleep(0.5)
        await holding.commit()
        assert (await importing).unchanged == 1


async def test_a_file_that_breaks_off_keeps_what_is_before_it(
    apictl: Apictl, superuser: User, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    file = 'email\nbob@example.com\n"' + "\n" * 20_000
    Path("users.csv").write_text(file)
    ended = await apictl("import-users", "users.csv", environment=environment)
    assert (ended.code, ended.err.splitlines()[:2]) == (
        2,
        ["error: users.csv: line 3: there is a record without an end", "cause: 1 users were created"],
    )
    assert await database.fetchval("SELECT count(*) FROM users") == 2


async def test_whoever_loses_their_power_imports_no_more(
    app: FastAPI, admin: httpx2.AsyncClient, as_ada: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    refused = await as_ada.post("/v1/bulk/users", content=b"email\n")
    assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope")
    await admin.post("/v1/roles", json={"name": "clerk", "scopes": ["users:write"]})
    await admin.put("/v1/users/ada@example.com/roles/clerk")

    async def slowly() -> AsyncIterator[bytes]:
        yield b"email\n"
        await admin.delete("/v1/users/ada@example.com/roles/clerk")
        yield b"eve@example.com\n"

    answer = await as_ada.post("/v1/bulk/users", content=slowly())
    assert (answer.status_code, answer.json()["code"]) == (403, "missing-scope")
    assert await database.fetchval("SELECT count(*) FROM users") == 2


async def test_only_who_may_do_everything_says_when_something_was(
    admin: httpx2.AsyncClient, as_ada: httpx2.AsyncClient
) -> None:
    await admin.post("/v1/roles", json={"name": "clerk", "scopes": ["users:write"]})
    await admin.put("/v1/users/ada@example.com/roles/clerk")
    file = "email,created_at,email_verified_at\na@example.com,2020-01-01,\nb@example.com,,2020-01-01\n"
    report = (await told(as_ada, file))[1]
    assert [(one["field"], one["code"]) for one in report["errors"]] == [
        ("created_at", "missing-scope"),
        ("email_verified_at", "missing-scope"),
    ]
    report = (await told(admin, file + "c@example.com,2999-01-01,\n"))[1]
    assert (report["created"], report["errors"][0]["message"]) == (2, "it is in the future")


async def test_results_say_no_more_than_is_so(
    apictl: Apictl, superuser: User, environment: dict[str, str], tmp_path: Path
) -> None:
    Path("users.csv").write_text("email\nada@example.com\nno address\n")
    line = ("import-users", "users.csv", "--atomic", "--results", "results")
    assert (await apictl(*line, environment=environment)).code == 9
    results = [json.loads(text) for text in Path("results").read_text().splitlines()]
    assert [(one["status"], "id" in one) for one in results] == [("accepted", False), ("failed", False)]
    assert stat.S_IMODE(Path("results").stat().st_mode) == 0o600
    # What is to be imported is not written over.
    Path("link").hardlink_to("users.csv")
    ended = await apictl("import-users", "users.csv", "--results", "link", environment=environment)
    assert (ended.code, Path("users.csv").read_text()[:5]) == (2, "email"), ended.err


async def test_what_was_imported_before_an_interruption_stays(
    environment: dict[str, str], superuser: User, database: asyncpg.Connection, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = await asyncio.create_subprocess_exec(
        APICTL, "import-users", pipe, env=environment, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    # Opened by both, it is never at its end; two batches and a bit are sent.
    end = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    text = "email\n" + "".join(f"u{number}@example.com\n" for number in range(2 * service.BATCH + 500))
    await asyncio.to_thread(os.write, end, text.encode())
    count = "SELECT count(*) FROM users WHERE email LIKE 'u%'"
    async with asyncio.timeout(30):
        while await database.fetchval(count) < service.BATCH:
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    os.close(end)
    assert process.returncode == 130, said
    assert b"the same command goes on from there" in said
    assert service.BATCH <= await database.fetchval(count) <= 2 * service.BATCH + 500
    Path("whole.csv").write_text(text)
    ended = await run("import-users", "whole.csv", "-o", "json", environment=environment)
    assert (ended.code, ended.json()["failed"]) == (0, 0)
    assert await database.fetchval(count) == 2 * service.BATCH + 500


async def test_files_that_cannot_be_read(
    apictl: Apictl, superuser: User, environment: dict[str, str], admin: httpx2.AsyncClient, app: FastAPI
) -> None:
    Path("folder").mkdir()
    for line, words in (
        (["nowhere.csv"], "nowhere.csv cannot be read"),
        (["folder"], "folder cannot be read"),
        (["-", "--results", "folder"], "folder cannot be written"),
    ):
        ended = await apictl("import-users", *line, environment=environment, stdin="email\na@example.com\n")
        assert (ended.code, words in ended.err, "Traceback" in ended.err) == (2, True, False), ended.err
    ended = await apictl("export-users", "--to", "no/such/folder", environment=environment)
    assert (ended.code, "cannot be written" in ended.err) == (2, True)
    for content, code in (("emial\n", "bad-request"), (b"email\n" + b"x" * 2000, "body-too-large")):
        app.long_bodies["POST", "/v1/bulk/users"] = 1024  # type: ignore[attr-defined]
        answer = await admin.post("/v1/bulk/users", content=content)
        assert answer.json()["code"] == code
    app.long_bodies["POST", "/v1/bulk/users"] = 16 << 20  # type: ignore[attr-defined]


@pytest.mark.skipif(not THOROUGH, reason="a million rows: CI's second run has them")
async def test_a_million_rows_take_no_more_memory_than_a_thousand(
    environment: dict[str, str], superuser: User, tmp_path: Path, runtime: Runtime
) -> None:
    async def many(rows: int) -> AsyncIterator[bytes]:
        yield b"email,full_name\n"
        for start in range(0, rows, 1000):
            yield b"".join(b"u%d@example.com,User %d\n" % (n, n) for n in range(start, start + 1000))

    how = ImportOptions(dry_run=True)
    taken = []
    for rows in (50_000, 1_000_000):
        report = await BulkService(runtime, Actor.operator("test")).import_users(many(rows), how)
        assert report.created == rows
        taken.append(resident(os.getpid()))
    assert taken[1] - taken[0] <= 20 * 1024, taken
