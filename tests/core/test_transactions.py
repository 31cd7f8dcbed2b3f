"""A door reports success only after the commit, and what failed leaves nothing behind."""

from typing import Any, Final

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from tests.conftest import PASSWORD, SUPERUSER
from tests.support.processes import Apictl
from tests.support.statements import statements

FAIL_AT_COMMIT = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'refused at commit' USING ERRCODE = '{state}'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE OR DELETE ON users DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.mark.parametrize(
    ("state", "status", "code", "exit_code"),
    [("23505", 409, "conflict", 5), ("40001", 503, "database-unreachable", 7), ("P0001", 500, "internal-error", 1)],
)
async def test_a_failing_commit_is_no_success(
    admin: httpx2.AsyncClient,
    apictl: Apictl,
    environment: dict[str, str],
    database: asyncpg.Connection,
    state: str,
    status: int,
    code: str,
    exit_code: int,
) -> None:
    """The trigger is deferred: every statement succeeds, and only the COMMIT fails."""
    await database.execute(FAIL_AT_COMMIT.format(state=state))
    before = await database.fetch("SELECT * FROM users")
    answer = await admin.post("/v1/users", json={"email": "ada@example.com"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    ended = await apictl("create-user", "ada@example.com", "--no-password", environment=environment)
    assert (ended.code, ended.out) == (exit_code, "")
    assert await database.fetch("SELECT * FROM users") == before
    assert await database.fetchval("SELECT count(*) FROM audit_entries WHERE action = 'user.create'") == 1


async def test_a_use_that_cannot_be_noted_is_one_all_the_same(
    admin: httpx2.AsyncClient, client: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    """On a standby, or a full disk: whoever only reads is not kept from it."""
    key = (await admin.post("/v1/api-keys", json={"user": SUPERUSER, "name": "x", "scopes": ["users:read"]})).json()
    await database.execute("UPDATE sessions SET last_used_at = now() - interval '1 hour'")
    await database.execute(RAISED.format(state="53100"))
    for table in ("sessions", "api_keys"):
        await database.execute(f"CREATE TRIGGER t BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
    assert (await admin.get("/v1/users/me")).status_code == 200
    assert (await client.get("/v1/users", headers={"Authorization": f"Bearer {key['key']}"})).status_code == 200


RAISED: Final = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'a row of somebody''s' USING ERRCODE = '{state}'; END $$
"""
# Class by class, as the appendix of PostgreSQL's manual has them.
MEANINGS: Final = {
    (422, "invalid-input"): "22001 22003 22007 22021 22P02 22P05 54000 54001",
    (409, "conflict"): "23502 23503 23505 23514 23P01",
    (503, "database-unreachable"): "40001 40P01 53000 53100 53200 53300 53400 25006 58000 58030",
    (504, "database-timeout"): "55P03 57014 25P03 25P04",
    (503, "schema-behind"): "42P01 42703",
    (503, "bad-settings"): "42501 28000 3D000",
    (500, "internal-error"): "P0001 XX000 42601 0A000",
}
NOT_RETRIED: Final = {"invalid-input", "conflict", "bad-settings", "internal-error"}
# The connection is gone in the middle: to read is to try again, and who commits in the same breath cannot know.
GONE: Final = "08000 08003 08006 57P01 57P02 57P03 57P05"


async def test_every_class_of_failures_has_one_meaning(admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    """Raised by PostgreSQL itself, in a transaction and in a single statement: status, code, form, Retry-After."""
    await database.execute(RAISED.format(state="P0001"))
    await database.execute(
        "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    before = await database.fetch("SELECT * FROM users")
    expected = {state: meaning for meaning, states in MEANINGS.items() for state in states.split()}
    for state in [*expected, *GONE.split()]:
        await database.execute(RAISED.format(state=state))
        for way in ("PATCH", "POST"):
            if way == "POST":
                answer = await admin.post("/v1/users", json={"email": "ada@example.com"})
                gone = (504, "outcome-unknown")
            else:
                answer = await admin.patch("/v1/users/me", json={"full_name": "x"})
                gone = (503, "database-unreachable")
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == expected.get(state, gone), (state, way)
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert ("Retry-After" in answer.headers) == (problem["code"] not in NOT_RETRIED), (state, way)
            # What PostgreSQL said is for the log.
            assert "somebody" not in answer.text
    assert await database.fetch("SELECT * FROM users") == before


async def test_reads_are_single_statements_without_a_transaction(
    app: FastAPI, admin: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who asks is one of them, whatever they came with, with their session or key, their roles and their powers."""
    key = (await admin.post("/v1/api-keys", json={"user": SUPERUSER, "name": "x", "scopes": ["users:read"]})).json()
    await admin.post("/v1/service-accounts", json={"name": "deploy"})
    of_deploy = (await admin.post("/v1/api-keys", json={"user": "deploy", "name": "x"})).json()["key"]
    form = {"grant_type": "client_credentials", "client_id": "deploy", "client_secret": of_deploy}
    of_a_client = (await admin.post("/v1/auth/token", data=form)).json()["access_token"]
    narrowed = (await admin.post("/v1/tokens", json={"user": SUPERUSER, "scopes": ["users:read"]})).json()
    bearers = (
        admin.headers["Authorization"],
        *(f"Bearer {token}" for token in (key["key"], of_deploy, of_a_client, narrowed["access_token"])),
    )
    begun: list[str] = []
    begin = asyncpg.Connection.transaction

    def watch(*arguments: Any, **options: Any) -> Any:
        begun.append("a transaction")
        return begin(*arguments, **options)

    monkeypatch.setattr(asyncpg.Connection, "transaction", watch)
    with statements(app) as sent:
        for bearer in bearers:
            # The first use is noted, and the second within a minute is not.
            for _ in range(2):
                sent.clear()
                assert (await admin.get("/v1/users/me", headers={"Authorization": bearer})).status_code == 200
            assert len(sent) == 1, sent
        sent.clear()
        assert (await admin.get("/v1/users")).status_code == 200
        assert len(sent) == 2, sent
    assert begun == []


async def test_a_dry_run_leaves_every_table_as_it_was(
    apictl: Apictl, environment: dict[str, str], admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await admin.post("/v1/users", json={"email": "ada@example.com", "password": PASSWORD})

    async def everything() -> list[Any]:
        return [await database.fetch(f"SELECT * FROM {table}") for table in ("users", "sessions", "audit_entries")]  # noqa: S608 - names of ours

    before = await everything()
    for line in (
        ["create-user", "bob@example.com", "--generate-password"],
        ["update-user", "ada@example.com", "--full-name", "Ada"],
        ["set-password", "ada@example.com", "--generate-password"],
        ["deactivate-user", "ada@example.com"],
        ["promote-user", "ada@example.com"],
        ["create-token", "ada@example.com"],
        ["delete-user", "ada@example.com"],
    ):
        ended = await apictl(*line, "--dry-run", "-o", "json", environment=environment)
        assert ended.code == 0, ended
        body = ended.json()
        assert (body["changed"], body["dry_run"]) == (True, True)
        assert "generated_password" not in body
        assert await everything() == before, line


async def test_a_session_closed_by_an_error_is_rolled_back(
    admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    answer = await admin.patch("/v1/users/me", json={"full_name": "x"}, headers={"If-Match": '"7"'})
    assert answer.status_code == 412
    idle = await database.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
    )
    assert idle == 0
