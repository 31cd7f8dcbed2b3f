"""Servers of one version at a database of another: who may take away what they use, and who may serve."""

import asyncio
import os
import socket
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest

from api.config import Settings
from api.main import create_app
from api.migrations.refusals import OlderServers
from api.migrations.revisions import BrokenMigrations, chain, head
from api.migrations.state import DatabaseNewer
from tests.migrations.conftest import Operator, Source
from tests.migrations.test_runs import revision, runs
from tests.support.processes import Apictl
from tests.support.server import serving

TAKE = 'op.drop_column("users", "last_login_at")'
ADD = 'op.add_column("users", sa.Column("x", sa.Text()))'


async def serve_with(database: asyncpg.Connection, built_for: str, *, seconds_ago: int = 1) -> None:
    """Have a server live, of a version that ends with this revision."""
    await database.execute(
        "INSERT INTO servers (id, revision, host, pid, seen_at) "
        "VALUES ($1, $2, 'web-1', 7, now() - $3 * '1 s'::interval)",
        uuid4(),
        built_for,
        seconds_ago,
    )


async def test_what_an_older_server_uses_is_not_taken_away(
    operator: Operator, source: Source, database: asyncpg.Connection
) -> None:
    before = head() or ""
    await serve_with(database, before)
    source.add("test1", ADD)
    source.add("test2", TAKE, phase="contract")
    with pytest.raises(OlderServers) as refused:
        await operator.migrate()
    assert "test2" in refused.value.detail
    assert f"web-1, process 7, was built for {before}" in (refused.value.cause or "")
    assert "--to test1" in (refused.value.hint or "")
    assert (await revision(database), operator.said) == (before, [])
    assert [one.id for one in (await operator.migrate(to="test1")).applied] == ["test1"]
    # By force, which is written down.
    assert [one.id for one in (await operator.migrate(force=True)).applied] == ["test2"]
    assert [(run["outcome"], run.get("forced")) for run in await runs(database)] == [
        ("failed", None),
        ("succeeded", None),
        ("succeeded", ["web-1 7"]),
    ]


@pytest.mark.parametrize(
    ("built_for", "seconds_ago", "more"),
    [
        # Gone for long; newer than we are; the same; and one that is known not to use it any more.
        (0, 120, {}),
        ("from the future", 1, {}),
        ("test1", 1, {}),
        (-1, 1, {"unused_since": "parent"}),
    ],
)
async def test_a_server_that_does_not_use_it_stops_nobody(
    operator: Operator,
    source: Source,
    database: asyncpg.Connection,
    built_for: int | str,
    seconds_ago: int,
    more: dict[str, str],
) -> None:
    known = built_for if isinstance(built_for, str) else chain()[built_for].id
    await serve_with(database, known, seconds_ago=seconds_ago)
    known_to_all: dict[str, Any] = {"unused_since": head()} if more else {}
    source.add("test1", TAKE, phase="contract", **known_to_all)
    assert [one.id for one in (await operator.migrate()).applied] == ["test1"]


@pytest.mark.parametrize(
    ("steps", "serves"),
    [
        ([{"up": ADD}], True),
        ([{"up": ADD}, {"up": "pass"}], True),
        ([{"up": TAKE, "phase": "contract"}], False),
        ([{"up": ADD}, {"up": TAKE, "phase": "contract"}], False),
        ([{"up": TAKE, "phase": "contract", "unused_since": "ours"}], True),
    ],
    ids=["one", "two", "taken", "added and taken", "unused"],
)
async def test_a_newer_database_is_served_if_nothing_was_taken_away(
    operator: Operator, source: Source, client: httpx2.AsyncClient, steps: list[dict[str, Any]], serves: bool
) -> None:
    ours = head()
    names = []
    for number, step in enumerate(steps):
        more: dict[str, Any] = {key: ours if value == "ours" else value for key, value in step.items()}
        names.append(source.add(f"test{number}", **more))
    await operator.migrate()
    source.remove(*names)
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json().get("code")) == ((200, None) if serves else (503, "database-newer"))
    if serves:
        assert (await operator.migrate()).applied == []
        assert (await operator.service.migration_status()).current == names[-1]
        known = await operator.service.migration_history()
        assert [one.id for one in known][: len(names) + 1] == [*reversed(names), ours]
    else:
        with pytest.raises(DatabaseNewer):
            await operator.migrate()
    with pytest.raises(DatabaseNewer):
        await operator.authoring.check_models()
    # Whoever asks what is pending hears that it is newer.
    with pytest.raises(DatabaseNewer):
        await operator.service.migration_state()


async def test_what_nobody_noted_is_not_served(
    source: Source, client: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    del source
    await database.execute("UPDATE alembic_version SET version_num = 'unknown'")
    assert (await client.get("/health/ready")).json()["code"] == "database-newer"


async def test_a_server_says_that_it_lives(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    with serving("serve", environment=environment, start=apictl.start) as server:
        server.get("/health/ready")
        async with asyncio.timeout(20):
            while not (found := await database.fetch("SELECT revision, host, pid FROM servers")):
                await asyncio.sleep(0.02)
        assert [(row["revision"], row["host"]) for row in found] == [(head(), socket.gethostname())]
        os.kill(found[0]["pid"], 0)
        server.end()
    assert await database.fetch("SELECT * FROM servers") == []


async def test_a_server_that_cannot_say_so_serves_all_the_same(
    settings: Settings, database: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await database.execute("DROP TABLE servers")
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        async with asyncio.timeout(20):
            while "could not be noted" not in caplog.text:
                await asyncio.sleep(0.02)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            assert (await client.get("/health/live")).status_code == 200


async def test_serve_takes_a_newer_database_with_and_without_migrating(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection, superuser: Any
) -> None:
    await database.execute(
        "INSERT INTO schema_migrations (revision, parent, text, phase, actor, door, host) "
        "VALUES ('newer', $1, 'more', 'expand', 'x', 'cli', 'x')",
        head(),
    )
    await database.execute("UPDATE alembic_version SET version_num = 'newer'")
    for flags in ([], ["--migrate"]):
        with serving("serve", *flags, environment=environment, start=apictl.start) as server:
            assert server.get("/health/ready")[0] == 200


@pytest.mark.parametrize("since", ["nobody", "test1"])
def test_what_nobody_uses_since_must_be_known(source: Source, since: str) -> None:
    source.add("test1", TAKE, phase="contract", unused_since=since)
    with pytest.raises(BrokenMigrations) as broken:
        chain()
    assert f"unused_since is {since}" in (broken.value.cause or "")


@pytest.mark.parametrize("flags", [[], ["--migrate"]])
async def test_serve_behind_head(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection, superuser: Any, flags: list[str]
) -> None:
    taken_back = await apictl("rollback", "--yes", environment=environment)
    assert taken_back.code == 0, taken_back.err
    if not flags:
        ended = await apictl("serve", "--port", "0", environment=environment)
        assert (ended.code, "apictl migrate" in ended.err) == (11, True)
        return
    with serving("serve", *flags, environment=environment, start=apictl.start) as server:
        assert server.get("/health/ready")[0] == 200
    assert await revision(database) == head()
