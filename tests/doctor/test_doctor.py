"""What the doctor finds, at both doors: each thing that can be wrong is made wrong once."""

import importlib.util
import json
import shutil
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import pytest
from pydantic import SecretStr

from api.config import Settings
from api.core.actor import Actor
from api.core.hashes import ROUNDS
from api.core.runtime import Runtime
from api.core.valkey import Valkey
from api.doctor.looking import hash_cost, metrics, traces
from api.doctor.service import DoctorService, clock
from api.users.models import User
from benchmarks.servers import free_port
from tests.migrations.test_pgbouncer import PGBOUNCER, in_front_of
from tests.support.doors import Door
from tests.support.processes import Apictl, Finished

NAMES: Final = {
    "secret-key", "public-url", "storage", "hash-cost", "database", "clock",
    "schema", "models", "pooler", "signing-keys", "pool", "servers", "mail", "valkey",
    "metrics", "traces",
}  # fmt: skip


def found(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the checks by their names; those that need somebody are the first."""
    statuses = [check["status"] for check in body["checks"]]
    assert statuses == sorted(statuses, key=["fail", "warn", "skipped", "ok"].index)
    assert body["status"] == (statuses[0] if statuses[0] != "skipped" else "ok")
    checks = {check["name"]: check for check in body["checks"]}
    assert set(checks) == NAMES
    for check in checks.values():
        # Whoever reads it at night is told what to do.
        assert check["hint"] or check["status"] in {"ok", "skipped"}, check
        assert (check["code"] is not None) == (check["status"] == "fail"), check
    return checks


async def asked(apictl: Apictl, environment: dict[str, str]) -> tuple[dict[str, dict[str, Any]], Finished]:
    ended = await apictl("doctor", "-o", "json", environment=environment)
    return found(ended.json()), ended


async def test_all_is_well(door: Door, database: asyncpg.Connection) -> None:
    await database.execute("INSERT INTO servers (id, revision, host, pid) VALUES (gen_random_uuid(), 'x', 'web1', 7)")
    answer = await door.do("doctor")
    checks = found(answer.body)
    # In a test, hashes cost next to nothing.
    assert {name for name, check in checks.items() if check["status"] != "ok"} <= {"hash-cost"}
    assert "web1 (7)" in checks["servers"]["detail"]


async def test_mails_that_are_not_sent_and_why(
    admin: httpx2.AsyncClient, apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    """Also while the next try is awaited: somebody has waited all the time."""
    await database.execute(
        "INSERT INTO mails (id, kind, address, minute, created_at, due_at, error) VALUES (gen_random_uuid(), 'reset', "
        "'a@example.com', 1, now() - interval '2 minutes', now() + interval '1 hour', 'Connection refused')"
    )
    check = (await asked(apictl, environment))[0]["mail"]
    assert (check["status"], check["detail"][:2], "Connection refused" in check["detail"]) == ("warn", "1 ", True)
    # What a mail server says may have addresses in it.
    check = found((await admin.get("/v1/doctor")).json())["mail"]
    assert (check["status"], "Connection refused" in check["detail"]) == ("warn", False)


async def test_who_may_ask(as_ada: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    assert (await as_ada.get("/v1/doctor")).status_code == 403
    await admin.post("/v1/roles", json={"name": "watch", "scopes": ["doctor:read"]})
    await admin.put("/v1/users/ada@example.com/roles/watch")
    body = (await as_ada.get("/v1/doctor")).json()
    assert found(body)["models"]["status"] == "ok"
    # Where the database is, and under which account, is for whoever is there.
    assert "postgresql://" not in json.dumps(body)


async def test_without_a_database_the_rest_is_told(apictl: Apictl, environment: dict[str, str], tmp_path: Path) -> None:
    nowhere = environment | {"APICTL_DATABASE_URL": "postgresql://ada:CANARY@127.0.0.1:1/none"}
    checks, ended = await asked(apictl, nowhere | {"APICTL_SECRET_KEY": "x" * 40, "APICTL_LISTEN_HOST": "192.0.2.1"})
    assert {name: check["status"] for name, check in checks.items() if name not in {"hash-cost", "storage"}} == {
        "database": "fail", "secret-key": "fail", "public-url": "warn",
        **dict.fromkeys(("metrics", "traces", "valkey"), "ok"),
        **dict.fromkeys(("clock", "schema", "models", "pooler", "signing-keys"), "skipped"),
        **dict.fromkeys(("pool", "servers", "mail"), "skipped"),
    }  # fmt: skip
    assert "CANARY" not in ended.out + ended.err
    assert "Connect call failed" in checks["database"]["detail"]
    told = await apictl("doctor", "-o", "table", environment=nowhere)
    assert told.code == 7
    first, second, *_ = told.out.splitlines()
    assert (first.split()[:2], "→ check that it runs" in second) == (["fail", "database"], True)
    # None at all: no folder is made to look into.
    bare = {name: value for name, value in environment.items() if name != "APICTL_DATABASE_URL"}
    ended = await apictl("doctor", environment=bare | {"APICTL_HOME": str(tmp_path / "none")})
    assert (ended.code, "apictl quickstart" in ended.out or "APICTL_DATABASE_URL" in ended.out) == (12, True)
    assert not (tmp_path / "none").exists()


async def test_a_schema_that_is_behind_or_was_changed(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection, empty_url: str
) -> None:
    checks, ended = await asked(apictl, environment | {"APICTL_DATABASE_URL": empty_url})
    assert (ended.code, checks["schema"]["code"], checks["schema"]["hint"]) == (
        11,
        "schema-behind",
        "run: apictl migrate",
    )
    await database.execute("ALTER TABLE users DROP COLUMN full_name")
    checks, ended = await asked(apictl, environment)
    assert (ended.code, checks["models"]["status"]) == (0, "warn")
    assert "add column users.full_name" in checks["models"]["detail"]
    await database.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    checks, ended = await asked(apictl, environment)
    assert (ended.code, checks["schema"]["code"]) == (11, "database-newer")


async def test_keys_that_are_old_late_or_sealed_with_another_secret(
    apictl: Apictl, environment: dict[str, str], superuser: User, database: asyncpg.Connection
) -> None:
    await database.execute("UPDATE signing_keys SET active_from = now() - interval '400 days'")
    checks, _ = await asked(apictl, environment)
    assert (checks["signing-keys"]["status"], "rotate-keys" in checks["signing-keys"]["hint"]) == ("warn", True)
    await database.execute("UPDATE signing_keys SET active_from = now()")
    await apictl("rotate-keys", "--wait", str(86400), environment=environment)
    await database.execute("UPDATE signing_keys SET active_from = now() + interval '60 days' WHERE number = 2")
    checks, _ = await asked(apictl, environment)
    assert (checks["signing-keys"]["status"], "month" in checks["signing-keys"]["hint"]) == ("warn", True)
    checks, ended = await asked(
        apictl, environment | {"APICTL_SECRET_KEY": "another one, of the right length: 0123456789"}
    )
    assert (ended.code, checks["signing-keys"]["code"]) == (12, "bad-settings")
    # Nothing was repaired behind anybody's back.
    assert await database.fetchval("SELECT count(*) FROM signing_keys") == 2

    # Some of each: whoever has the other secret key signs with what is not opened here.
    await database.execute("UPDATE signing_keys SET sealed = 'x', active_from = now() WHERE number = 2")
    checks, ended = await asked(apictl, environment)
    assert (ended.code, checks["signing-keys"]["status"]) == (0, "warn")
    assert "1 were sealed with another secret key" in checks["signing-keys"]["detail"]


async def test_what_lacks_a_package_or_does_not_answer_keeps_nobody_from_the_rest(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looked(**changed: Any) -> dict[str, dict[str, Any]]:
        own = settings.model_copy(update=changed)
        diagnosis = await DoctorService(own, Actor.operator("ada"), lambda: nullcontext(runtime)).doctor()
        return found(diagnosis.model_dump(mode="json"))

    nowhere = SecretStr(f"redis://ada:CANARY@127.0.0.1:{free_port()}/0")
    checks = await looked(throttle_url=nowhere, metrics_port=settings.listen_port)
    assert (checks["valkey"]["code"], checks["metrics"]["code"]) == ("valkey-unreachable", "bad-settings")
    assert checks["database"]["status"] == checks["traces"]["status"] == "ok"
    assert "ConnectionError at 127.0.0.1:" in checks["valkey"]["detail"]
    assert "CANARY" not in json.dumps(checks)
    # What Python says of a package that is not installed.
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "redis" else spec(name))
    checks = await looked(throttle_url=nowhere, otlp_endpoint="http://127.0.0.1:4318")
    assert {"valkey", "traces"} == {name for name, check in checks.items() if check["status"] == "fail"}
    assert all("pip install" in checks[name]["hint"] for name in ("valkey", "traces"))


def test_where_numbers_and_traces_go() -> None:
    assert metrics(Settings(metrics_port=9464)).detail == "on port 9464"
    # To take a free port each is no clash.
    assert metrics(Settings(metrics_port=0, listen_port=0)).status == "ok"
    assert traces(Settings(otlp_endpoint="http://127.0.0.1:4318")).status == "ok"


@pytest.mark.parametrize("url", ["redis://:1/CANARY@h:1/0", "redis://h:1?password=a@CANARY", "redis://u:CANARY@h:1"])
def test_no_part_of_a_password_names_a_valkey(url: str) -> None:
    assert "CANARY" not in Valkey(url, Settings())._where


async def test_a_server_whose_keys_cannot_sign_is_not_ready(
    superuser: User, client: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    await database.execute("UPDATE signing_keys SET sealed = 'x'")
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, "bad-settings")


async def test_more_connections_than_there_are(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    many = "SELECT gen_random_uuid(), 'x', 'web1', n FROM generate_series(1, 50) AS n"
    await database.execute(f"INSERT INTO servers (id, revision, host, pid) {many}")
    checks, _ = await asked(apictl, environment | {"APICTL_POOL_SIZE": "200"})
    assert checks["pool"]["status"] == "warn"
    name = await database.fetchval("SELECT current_database()")
    await database.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    checks, ended = await asked(apictl, environment)
    assert (ended.code, checks["database"]["hint"]) == (12, "point APICTL_DATABASE_URL at the primary")


@pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed (Debian: apt install pgbouncer)")
async def test_a_pooler_is_seen_by_what_it_does(apictl: Apictl, environment: dict[str, str]) -> None:
    with in_front_of(environment["APICTL_DATABASE_URL"], size=2) as url:
        checks, ended = await asked(apictl, environment | {"APICTL_DATABASE_URL": url})
    assert (ended.code, checks["pooler"]["status"]) == (0, "warn")


@pytest.mark.parametrize(
    ("seconds", "status", "word"),
    [(0.02, "ok", "100 logins"), (0.002, "warn", f"time_cost {ROUNDS * 10}"), (0.5, "warn", "cores")],
)
def test_what_a_hash_costs(seconds: float, status: str, word: str) -> None:
    judged = hash_cost(seconds, 2, rounds=ROUNDS)
    assert (judged.status, word in f"{judged.detail} {judged.hint}") == (status, True)


@pytest.mark.parametrize(("seconds", "status"), [(4, "ok"), (-4, "ok"), (6, "warn"), (-6, "warn")])
def test_clocks_that_differ(seconds: int, status: str) -> None:
    now = datetime.now(UTC)
    assert clock(now + timedelta(seconds=seconds), now).status == status


@pytest.mark.parametrize(("free", "status"), [(10 << 20, "fail"), (200 << 20, "warn"), (9 << 30, "ok")])
def test_a_disk_that_fills(free: int, status: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from api.doctor.looking import storage  # noqa: PLC0415

    # What the system says, and not what we do with it.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10 << 30, 0, free))
    assert storage(Settings(home=tmp_path)).status == status
