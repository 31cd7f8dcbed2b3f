"""The migrations and the models are two accounts of one schema; every step goes both ways."""

from collections.abc import Callable
from typing import Any, Final

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from api.migrations.revisions import chain, head
from tests.project.code import ROOT

SCHEMA: Final = """
SELECT c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    pg_get_expr(d.adbin, d.adrelid), l.collname, pg_get_indexdef(c.oid)
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'alembic_version%'
UNION ALL
SELECT conname, contype::text, pg_get_constraintdef(oid), NULL, NULL, NULL, NULL, NULL
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'alembic_version%'
UNION ALL
SELECT typname, typtype::text, NULL, NULL, NULL, NULL, NULL, NULL
FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
UNION ALL
SELECT proname, prokind::text, pg_get_functiondef(oid), NULL, NULL, NULL, NULL, NULL
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "alembic").replace("%", "%%"))
    return config


class Database:
    """An empty database, and Alembic at work on it."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def alembic(self, run: Callable[..., Any], *arguments: str) -> None:
        async def connect() -> asyncpg.Connection:
            return await asyncpg.connect(self._url)

        def work(connection: Connection) -> None:
            config = configuration()
            config.attributes["connection"] = connection
            run(config, *arguments)

        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
        async with engine.begin() as connection:
            await connection.run_sync(work)
        await engine.dispose()

    async def schema(self) -> set[tuple[Any, ...]]:
        connection = await asyncpg.connect(self._url)
        try:
            return {tuple(row) for row in await connection.fetch(SCHEMA)}
        finally:
            await connection.close()


@pytest.fixture
def empty(empty_url: str) -> Database:
    return Database(empty_url)


async def test_the_models_are_what_the_migrations_make(empty: Database) -> None:
    await empty.alembic(command.upgrade, "head")
    # Raises, and names the differences, if autogenerate would write a migration now.
    await empty.alembic(command.check)


async def test_every_step_goes_both_ways(empty: Database) -> None:
    seen = [await empty.schema()]
    assert not seen[0]
    for revision in chain():
        await empty.alembic(command.upgrade, revision.id)
        seen.append(await empty.schema())
    for before in reversed(seen[:-1]):
        await empty.alembic(command.downgrade, "-1")
        assert await empty.schema() == before
    await empty.alembic(command.upgrade, "head")
    assert await empty.schema() == seen[-1]


def test_our_reading_of_the_files_is_alembics() -> None:
    scripts = ScriptDirectory.from_config(configuration())
    assert [script.revision for script in scripts.walk_revisions()] == [item.id for item in reversed(chain())]
    assert scripts.get_heads() == [head()]
    assert [(item.parent, item.text) for item in chain()] == [
        (script.down_revision, (script.doc or "").rstrip(".")) for script in reversed(list(scripts.walk_revisions()))
    ]


def test_the_folder_is_no_package() -> None:
    found = list((ROOT / "alembic").rglob("__init__.py"))
    assert not found, "it would be imported in place of the package alembic"
