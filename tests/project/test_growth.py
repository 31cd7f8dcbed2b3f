"""What a request costs does not grow with the tables: every list, in every order, at its start and at its end.

Counted in rows that PostgreSQL touches, and not in seconds: that is the same on every machine.
"""

import asyncio
import json
from datetime import datetime
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx2
from fastapi import FastAPI

import api
from api.bulk.service import BATCH
from api.core.direct import Statement
from api.core.pagination import Cursor
from api.tokens import crud as tokens
from api.users.models import User
from tests.conftest import SUPERUSER
from tests.support.cases import cases
from tests.support.processes import Apictl
from tests.support.statements import nodes, plan, statements

# A hundred thousand in CI's second run. A tenth of them have what a filter asks for, and a thousandth are superusers.
ROWS: Final = cases(100_000)
FILL: Final = """
INSERT INTO roles (name, scopes) VALUES ('support', '{}');
INSERT INTO users (id, email, full_name, is_active, is_superuser, roles, created_at, updated_at)
SELECT gen_random_uuid(), 'user' || n || '@example.com', 'User Number ' || n, n % 1000 <> 7, n % 1000 = 1,
       CASE n % 10 WHEN 1 THEN '{support}'::text[] ELSE '{}' END,
       now() - n * '1 s'::interval, now() - n * '1 s'::interval
FROM generate_series(1, $rows) AS n;
INSERT INTO users (id, kind, name, created_at, updated_at)
SELECT gen_random_uuid(), 'service', 'robot-' || n, now() - n * '100 s'::interval, now() - n * '100 s'::interval
FROM generate_series(1, $rows / 100) AS n;
INSERT INTO sessions (id, user_id, expires_at, created_at)
SELECT gen_random_uuid(), id, now() + CASE WHEN is_active THEN '1 d'::interval ELSE '-1 d' END, created_at FROM users;
INSERT INTO api_keys (id, user_id, name, digest, scopes, created_at)
SELECT gen_random_uuid(), id, 'x', '', '{}', created_at FROM users;
INSERT INTO audit_entries (id, at, actor, actor_user_id, door, action, target, target_id, outcome, detail, request_id)
SELECT gen_random_uuid(), now() - n * '1 s'::interval, CASE n % 10 WHEN 1 THEN 'operator:x@y' ELSE 'x' END,
       CASE n % 10 WHEN 1 THEN NULL WHEN 2 THEN '01900000-0000-7000-8000-000000000001'::uuid ELSE gen_random_uuid() END,
       CASE n % 10 WHEN 1 THEN 'cli' ELSE 'http' END, CASE n % 1000 WHEN 3 THEN 'user.delete' ELSE 'user.create' END,
       CASE n / 10 WHEN 200 THEN 'signing_key' ELSE 'user' END, gen_random_uuid(),
       CASE n % 1000 WHEN 4 THEN 'refused' ELSE 'done' END, '{}', 'r' || n
FROM generate_series(1, $rows) AS n;
INSERT INTO throttles (key, until) SELECT sha256(n::text::bytea), now() + '1 d'::interval
FROM generate_series(1, $rows) AS n;
"""
SORTS: Final = [f"{sign}{name}" for name in ("created_at", "updated_at", "email") for sign in ("", "-")]
LISTS: Final = [
    *(f"/v1/users?sort={sort}" for sort in SORTS),
    *(f"/v1/users?sort={sort}&is_active=true" for sort in SORTS),
    "/v1/users?is_active=false",
    "/v1/users?role=support",
    "/v1/users?is_superuser=true",
    "/v1/users?is_superuser=false",
    *(f"/v1/service-accounts?sort={sign}{name}" for name in ("created_at", "name") for sign in ("", "-")),
    "/v1/tokens",
    "/v1/tokens?live=true",
    f"/v1/tokens?user={SUPERUSER}",
    "/v1/api-keys",
    f"/v1/api-keys?user={SUPERUSER}",
    *(f"/v1/audit{which}" for which in ("", f"?actor={SUPERUSER}", "?actor=operator:x@y", "?action=user.delete")),
    *(f"/v1/audit?{which}" for which in ("target=signing_key", "door=cli", "outcome=refused", "request_id=r999")),
    f"/v1/audit?target_id={UUID(int=0)}",
]
PREPARED: Final = "SELECT name FROM pg_prepared_statements WHERE statement = $1"
CUSTOM_PLANS: Final = "SELECT custom_plans FROM pg_prepared_statements WHERE statement = $1"
# Rows that a page of fifty may touch: those that it shows, one more, their owners, and some that a filter leaves out.
TOUCHED: Final = 51 * 2 * 10


def touched(of: dict[str, Any]) -> int:
    """Return how many rows a plan's steps have read from tables and indexes."""
    return sum(
        (step["Actual Rows"] + step.get("Rows Removed by Filter", 0) + step.get("Rows Removed by Index Recheck", 0))
        * step["Actual Loops"]
        for step in nodes(of)
        if "Scan" in step["Node Type"]
    )


async def near_the_end(admin: httpx2.AsyncClient, path: str) -> str:
    """Return the path of the same list's last page: from its other end, and back from there."""
    before, _, after = path.partition("sort=")
    sort = after.partition("&")[0]
    other = sort[1:] if sort.startswith("-") else f"-{sort}"
    last = (await admin.get(f"{before}sort={other}{after[len(sort) :]}")).json()["items"][-1]
    value = last[sort.lstrip("-")]
    moment = datetime.fromisoformat(value) if sort.endswith("_at") else value
    return f"{path}&cursor={Cursor(sort, moment, UUID(last['id'])).encode()}"


async def test_a_page_costs_what_is_on_it(
    app: FastAPI, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await database.execute(FILL.replace("$rows", str(ROWS)))
    await database.execute("VACUUM ANALYZE")
    dear = []
    for path in LISTS:
        asked = [path, *([await near_the_end(admin, path)] if "sort=" in path else [])]
        for each in asked:
            with statements(app) as sent:
                assert (await admin.get(each)).status_code == 200
            for one in sent:
                found = await plan(database, one, analyze=True)
                if touched(found) > TOUCHED:
                    dear.append((each, touched(found)))
    assert dear == [], "\n".join(map(str, dear))


async def test_who_is_asking_is_planned_once(
    app: FastAPI, admin: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await database.execute(FILL.replace("$rows", str(ROWS)))
    await database.execute("VACUUM ANALYZE")
    for _ in range(40):
        assert (await admin.get("/v1/users/me")).status_code == 200
    made = [
        await connection.fetchval(CUSTOM_PLANS, tokens.IDENTITIES.text) or 0
        for connection in app.state.runtime.direct._idle
    ]
    # PostgreSQL tries five for the values that it is given, on each connection, and then keeps one for all.
    assert 0 < max(made) <= 5


async def plan_of(connection: asyncpg.Connection, name: str, arguments: str) -> list[dict[str, Any]]:
    """Return the steps of what a connection has prepared under this name."""
    found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE {name} {arguments}")
    return [*nodes(json.loads(found)[0]["Plan"])]


def reads_whole(step: dict[str, Any]) -> bool:
    """Tell whether a step reads a table, or an index, from one end to the other."""
    return step["Node Type"] == "Seq Scan" or ("Index" in step["Node Type"] and "Index Cond" not in step)


async def test_an_import_ends_the_plans_of_few_users(admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    """A connection keeps the plans of a new installation, where any index, or none, is as good as another."""
    looked = []
    for number in (1, BATCH):
        people = "\n".join(["email", *(f"user{each}of{number}@example.com" for each in range(number))])
        assert (await admin.post("/v1/bulk/users", content=people)).json()["created"] == number
        await database.execute("SELECT pg_stat_force_next_flush()")
        looked.append(await database.fetchval("SELECT analyze_count FROM pg_stat_user_tables WHERE relname = 'users'"))
    assert looked == [0, 1]


def every_statement() -> dict[str, Statement]:
    """Return all that are sent directly and always the same, by their names."""
    modules = [import_module(one.name) for one in walk_packages(api.__path__, "api.") if not one.name.endswith("__")]
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Statement)
    }


async def test_every_direct_statement_has_its_index(superuser: User, database: asyncpg.Connection) -> None:
    """By the plan that is kept for all values, as the servers' connections have it after a while."""
    del superuser
    await database.execute(FILL.replace("$rows", str(ROWS)))
    await database.execute("VACUUM ANALYZE")
    await database.execute("SET plan_cache_mode = force_generic_plan")
    large = {
        row["relname"]
        for row in await database.fetch("SELECT relname FROM pg_class WHERE relkind = 'r' AND relpages > 10")
    }
    assert {"users", "sessions", "api_keys", "audit_entries", "throttles"} <= large
    found = every_statement()
    assert len(found) > 15
    read_whole = []
    for name, statement in found.items():
        prepared = await database.prepare(statement.text)
        number = len(prepared.get_parameters())
        arguments = f"({', '.join(['NULL'] * number)})" if number else ""
        steps = await plan_of(database, await database.fetchval(PREPARED, statement.text), arguments)
        read_whole += [(name, step) for step in steps if reads_whole(step) and step.get("Relation Name") in large]
    assert read_whole == []


async def test_whatever_refers_to_a_row_is_found_by_an_index(database: asyncpg.Connection) -> None:
    """To delete a user is to look for what is theirs, in every table that has something of users."""
    unserved = await database.fetch(
        "SELECT conname FROM pg_constraint AS c WHERE contype = 'f' AND NOT EXISTS "
        "(SELECT FROM pg_index AS i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1] AND indpred IS NULL)"
    )
    assert [row["conname"] for row in unserved] == []


# What a process has read is there when it has left.
OTHERS: Final = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
READ_WHOLE: Final = "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE relname <> 'alembic_version'"


async def test_files_and_states_read_no_table_whole(
    apictl: Apictl, environment: dict[str, str], superuser: User, database: asyncpg.Connection, tmp_path: Path
) -> None:
    """Also statements that no request sends, or none of these: counted by PostgreSQL itself."""
    del superuser
    await database.execute(FILL.replace("$rows", str(ROWS)))
    await database.execute("VACUUM ANALYZE")
    people = [f"user{n}@example.com" for n in range(1, 200)] + [f"new{n}@example.com" for n in range(200)]
    (tmp_path / "users.csv").write_text("\n".join(["email", *people]), encoding="utf-8")
    state = {
        "owner": "x",
        "users": [{"email": email, "full_name": "Somebody"} for email in people[:20]],
        "service_accounts": [{"name": f"robot-{n}", "roles": ["support"], "api_keys": [{"name": "y"}]} for n in (1, 2)],
    }
    (tmp_path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (tmp_path / "less.json").write_text(json.dumps(state | {"users": []}), encoding="utf-8")
    await database.execute("SELECT pg_stat_force_next_flush()")
    before = await read_whole(database)
    for line in (
        ["import-users", "users.csv", "--if-exists", "skip"],
        ["apply", "-f", "state.json", "--show-keys", "--yes"],
        ["update-user", people[3], "--full-name", "Somebody else"],
        ["plan", "-f", "state.json"],
        ["apply", "-f", "less.json", "--yes"],
        ["show-user", people[3]],
        ["create-token", people[3]],
        ["delete-user", people[3], "--yes"],
    ):
        filled = [str(tmp_path / part) if part.endswith((".csv", ".json")) else part for part in line]
        ended = await apictl(*filled, environment=environment)
        assert ended.code in {0, 10}, (line, ended.err)
    whole = {name: rows - before[name] for name, rows in (await read_whole(database)).items()}
    assert {name: rows for name, rows in whole.items() if rows > TOUCHED} == {}


async def read_whole(database: asyncpg.Connection) -> dict[str, int]:
    """Return how many rows of each table were read from one end to the other, once nobody else is there."""
    while await database.fetchval(OTHERS):
        await asyncio.sleep(0.02)
    return {row["relname"]: row["seq_tup_read"] for row in await database.fetch(READ_WHOLE)}
