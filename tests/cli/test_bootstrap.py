"""`apictl bootstrap`: one line for a pipeline, which may be run again, and by many at once."""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import pytest

from api.api_keys.secret import ApiKeySecret
from tests.conftest import PASSWORD, log_in
from tests.support import postgres
from tests.support.cases import THOROUGH
from tests.support.processes import APICTL, Apictl, Finished, bare_environment, run

OPS: Final = "ops@example.com"
KEY: Final = ("--key-file", "keys/ci.key", "--key-scope", "users:read")
FILE: Final = Path("keys/ci.key")


@pytest.fixture
def bootstrap(apictl: Apictl, environment: dict[str, str]) -> Any:
    """Run it in the test's own folder, on its own database."""

    async def call(*arguments: str, stdin: str | None = None) -> Finished:
        return await apictl("bootstrap", *arguments, "-o", "json", environment=environment, stdin=stdin)

    return call


async def rows(database: asyncpg.Connection) -> list[Any]:
    """Return everything that it could have changed."""
    tables = ("users", "api_keys", "audit_entries")
    return [await database.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in tables]  # noqa: S608 - ours


async def test_it_makes_what_is_missing_and_then_changes_nothing(
    bootstrap: Any, database: asyncpg.Connection, client: httpx2.AsyncClient
) -> None:
    made = await bootstrap(OPS, "--password-stdin", *KEY, stdin=PASSWORD)
    assert made.code == 0, made.err
    said, key = made.json(), FILE.read_text(encoding="ascii").strip()
    assert (said["superuser"], said["key_file"], said["changed"], said["migrated"]) == ("created", "written", True, [])
    assert (said["api_key"]["user"], said["api_key"]["scopes"]) == (OPS, ["users:read"])
    assert said["api_key"]["expires_at"]
    somebody = await bootstrap("typo@example.com")
    assert (somebody.code, somebody.json()["changed"], "typo@example.com" in somebody.err) == (0, False, True)
    assert ApiKeySecret.parse(key)
    assert "apictl_key_" not in made.out + made.err
    assert (FILE.stat().st_mode & 0o777, FILE.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(FILE.parent.iterdir()) == [FILE]
    listed = await client.get("/v1/users", headers={"Authorization": f"Bearer {key}"})
    assert [user["email"] for user in listed.json()["items"]] == [OPS]
    assert listed.json()["items"][0]["is_superuser"]
    await log_in(client, OPS)

    before = await rows(database)
    # No password is needed any more, and one that is given is not looked at.
    for more, stdin in ((), None), (("--password-stdin",), "hunter2"), (("--dry-run",), None):
        again = await bootstrap(OPS, *KEY, *more, stdin=stdin)
        assert (again.code, again.err) == (0, "")
        assert again.json() | {"dry_run": None} == said | {
            "superuser": "exists",
            "key_file": "unchanged",
            "changed": False,
            "api_key": said["api_key"]
            | {"last_used_at": again.json()["api_key"]["last_used_at"]}
            | {"last_used_address": again.json()["api_key"]["last_used_address"]},
            "dry_run": None,
        }
    assert await rows(database) == before
    assert FILE.read_text(encoding="ascii").strip() == key


async def test_a_key_is_renewed_when_it_is_no_longer_what_is_wanted(
    bootstrap: Any, database: asyncpg.Connection
) -> None:
    async def renewed(*arguments: str) -> bool:
        before = ApiKeySecret.parse(FILE.read_text().strip()) if FILE.exists() else None
        ended = await bootstrap(OPS, *(arguments or KEY))
        assert ended.code == 0, ended.err
        after = ApiKeySecret.parse(FILE.read_text().strip())
        assert after is not None
        assert ended.json()["api_key"]["id"] == str(after.id)
        assert (ended.json()["key_file"] == "written") is ended.json()["changed"] is (before != after)
        old = before and await database.fetchrow("SELECT * FROM api_keys WHERE id = $1", before.id)
        if before and old and before != after and old["revoked_at"] is None and old["digest"] == before.digest:
            # It goes on beside its successor, for a day.
            within = await database.fetchval("SELECT $1::timestamptz <= now() + interval '1 day'", old["expires_at"])
            assert (old["successor_id"], within) == (after.id, True)
        return before != after

    async def aged(fraction: float) -> None:
        """Let so much of the key's ninety days have gone by."""
        await database.execute(
            "UPDATE api_keys SET created_at = now() - $1 * interval '90 days', "
            "expires_at = now() + (1 - $1) * interval '90 days' WHERE successor_id IS NULL AND revoked_at IS NULL",
            fraction,
        )

    assert (await bootstrap(OPS, "--no-password", *KEY)).code == 0
    assert not await renewed()
    await aged(0.6)
    assert not await renewed()
    await aged(0.7)
    assert await renewed()
    await database.execute("UPDATE api_keys SET revoked_at = now()")
    assert await renewed()
    await database.execute("UPDATE api_keys SET digest = ''")
    assert await renewed()
    assert await renewed(*KEY, "--key-scope", "roles:read")
    assert await renewed()
    assert await renewed(*KEY, "--key-expires-in", "3600")
    assert await renewed()
    await database.execute("INSERT INTO users (id, email, is_superuser) VALUES (gen_random_uuid(), 'a@b.org', true)")
    assert await renewed(*KEY, "--key-owner", "a@b.org")
    FILE.write_text("", encoding="ascii")
    assert await renewed(*KEY, "--key-owner", "a@b.org")
    assert await database.fetchval("SELECT count(*) FROM audit_entries WHERE action = 'api_key.rotate'") >= 5


@pytest.mark.parametrize(
    "number", [pytest.param(50, marks=pytest.mark.skipif(not THOROUGH, reason="heavy: fifty processes")), 8]
)
async def test_many_at_once_make_one_superuser(apictl: Apictl, empty_url: str, number: int) -> None:
    """On an empty database; one half keeps its keys in one file, the other each in their own."""
    environment = bare_environment(APICTL_DATABASE_URL=empty_url)
    ended = await asyncio.gather(
        *(
            apictl(
                "bootstrap", OPS, "--generate-password", "--key-scope", "users:read", "-o", "json",
                *("--key-file", f"keys/{'ci' if one % 2 else one}.key"), environment=environment,
            )
            for one in range(number)
        )
    )  # fmt: skip
    assert [one.code for one in ended] == [0] * number, [one.err for one in ended if one.code]
    said = [one.json() for one in ended]
    assert sorted(one["superuser"] for one in said) == ["created"] + ["exists"] * (number - 1)
    assert [one["superuser"] for one in said if "generated_password" in one] == ["created"]
    assert sum(bool(one["migrated"]) for one in said) == 1
    assert sum(one["key_file"] == "written" for one in said[1::2]) == 1
    assert len({one["api_key"]["id"] for one in said[1::2]}) == 1
    assert all(one["key_file"] == "written" for one in said[::2])
    async with postgres.connected(empty_url) as database:
        assert await database.fetchval("SELECT count(*) FROM users") == 1
        kept = {ApiKeySecret.parse(file.read_text().strip()) for file in Path("keys").iterdir()}
        digests = [row["digest"] for row in await database.fetch("SELECT digest FROM api_keys")]
        assert sorted(digests) == sorted(key.digest for key in kept if key)
        assert len(digests) == number // 2 + 1


async def test_what_cannot_be_done_leaves_nothing_behind(
    bootstrap: Any, database: asyncpg.Connection, environment: dict[str, str], tmp_path: Path
) -> None:
    Path("open").mkdir()
    Path("open").chmod(0o777)
    Path("elsewhere").write_text("precious", encoding="ascii")
    Path("link").symlink_to("elsewhere")
    Path("read").write_text("", encoding="ascii")
    Path("read").chmod(0o644)
    Path("other").write_text("precious", encoding="ascii")
    Path("other").chmod(0o600)
    before = await rows(database)
    new = (OPS, "--no-password")
    for line, code, words in (
        (("nobody", "--no-password"), 6, "@-sign"),
        ((OPS,), 2, "no terminal"),
        ((OPS, "--no-password", "--password-stdin"), 2, "two sources"),
        ((*new, "--key-scope", "users:read"), 2, "--key-file"),
        ((*new, "--key-file", "x", "--key-scope", "users:fly"), 6, "users:fly"),
        ((*new, "--key-file", "x", "--key-expires-in", "1"), 6, "60"),
        ((*new, "--key-file", "x"), 2, "--key-scope"),
        ((*new, "--key-file", "x", "--key-owner", "none", "--key-scope", "users:read"), 3, "none"),
        ((*new, "--key-file", "no/such/folder", "--key-scope", "users:read"), 2, "No such file"),
        ((*new, "--key-file", "elsewhere/x", "--key-scope", "users:read"), 2, "a folder of your own"),
        ((*new, "--key-file", "open/x", "--key-scope", "users:read"), 2, "open/private/x"),
        ((*new, "--key-file", "link", "--key-scope", "users:read"), 2, "symbolic link"),
        ((*new, "--key-file", "open", "--key-scope", "users:read"), 2, "no file"),
        ((*new, "--key-file", "read", "--key-scope", "users:read"), 2, "Others can read"),
        ((*new, "--key-file", "other", "--key-scope", "users:read"), 2, "something else"),
        ((*new, "--fields", "no"), 2, "superuser"),
    ):
        refused = await bootstrap(*line)
        assert (refused.code, words in refused.err) == (code, True), (line, refused)
    weak = await bootstrap(OPS, "--password-stdin", *KEY, stdin="short")
    assert (weak.code, FILE.exists()) == (6, False)
    # A disk that is full when the key's text is written: the superuser is undone with it.
    full = f"ulimit -f 0; exec {APICTL} bootstrap {OPS} --generate-password {' '.join(KEY)}"
    ended = await run("-c", full, environment=environment, program="bash")
    assert (ended.code, "cannot be written" in ended.err) == (2, True), ended.err
    assert list(FILE.parent.iterdir()) == []
    planned = await bootstrap(*new, *KEY, "--dry-run")
    assert (planned.code, planned.json()["superuser"], planned.json()["key_file"]) == (0, "created", "written")
    assert planned.json()["changed"]
    assert planned.json()["dry_run"]
    assert list(FILE.parent.iterdir()) == []
    assert await rows(database) == before
    assert Path("elsewhere").read_text(encoding="ascii") == Path("other").read_text(encoding="ascii") == "precious"
    await database.execute("INSERT INTO users (id, email) VALUES (gen_random_uuid(), $1)", OPS)
    taken = await bootstrap(*new, *KEY)
    assert (taken.code, "promote-user" in taken.err, list(FILE.parent.iterdir())) == (5, True, [])


async def test_an_empty_database_stays_empty(apictl: Apictl, empty_url: str) -> None:
    """After a dry run, and where something is refused that can be known before."""
    environment = bare_environment(APICTL_DATABASE_URL=empty_url)
    planned = await apictl("bootstrap", OPS, *KEY, "--dry-run", "-o", "json", environment=environment)
    assert (planned.code, planned.json()["superuser"], planned.json()["changed"]) == (0, "created", True), planned.err
    assert len(planned.json()["migrated"]) >= 10
    assert not FILE.parent.exists()
    Path("link").symlink_to("elsewhere")
    for more in ("--password-stdin", "--no-password"), ("--no-password", "--key-file", "link"):
        refused = await apictl("bootstrap", OPS, *more, environment=environment, stdin=PASSWORD)
        assert refused.code == 2
    async with postgres.connected(empty_url) as database:
        assert await database.fetchval("SELECT count(*) FROM pg_class WHERE relname = 'users'") == 0


async def test_one_at_a_time_decides_about_a_file(bootstrap: Any, database: asyncpg.Connection) -> None:
    """From when it is read until it is replaced, which is after the commit: the database's locks end too early."""
    FILE.parent.mkdir(mode=0o700)
    descriptor = os.open(FILE.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        other = asyncio.ensure_future(bootstrap(OPS, "--no-password", *KEY))
        # Long beside what it takes otherwise.
        await asyncio.wait({other}, timeout=0.8)
        assert not other.done()
        assert await database.fetchval("SELECT count(*) FROM users") == 0
    finally:
        os.close(descriptor)
    assert ((await other).code, FILE.exists()) == (0, True)


async def test_what_does_not_get_better_is_not_waited_for(apictl: Apictl, database_url: str) -> None:
    gone = bare_environment(APICTL_DATABASE_URL="postgresql://a:b@127.0.0.1:1/none")
    ended = await apictl("bootstrap", OPS, "--no-password", "--wait", "0.6", environment=gone)
    assert (ended.code, ended.err.count("Waiting for the database")) == (7, 1), ended.err
    missing = bare_environment(APICTL_DATABASE_URL=postgres.named(database_url, "none"))
    ended = await apictl("bootstrap", OPS, "--no-password", environment=missing)
    assert (ended.code, "Waiting" in ended.err) == (12, False), ended.err


@pytest.mark.skipif(not THOROUGH, reason="a PostgreSQL of its own takes seconds")
async def test_the_embedded_postgresql(tmp_path: Path) -> None:
    environment = bare_environment()
    # A pipeline that has lost its setting makes no empty world of its own.
    lost = await run("bootstrap", OPS, "--generate-password", *KEY, environment=environment)
    assert (lost.code, Path(".apictl").exists()) == (12, False), lost.err
    assert (await run("migrate", environment=environment)).code == 0
    for superuser in "created", "exists":
        ended = await run("bootstrap", OPS, "--generate-password", *KEY, "-o", "json", environment=environment)
        assert (ended.code, ended.json()["superuser"]) == (0, superuser), ended.err
