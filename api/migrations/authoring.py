"""The rules about writing migrations. For developers, with the source at hand: there is no HTTP door."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from api.core.actor import Actor, Scope
from api.core.errors import ApictlError, BadRequest, Kind
from api.core.failures import translated
from api.migrations.revisions import PACKAGED, chain, folder, read
from api.migrations.schemas import FindingRead, MigrationMade, MigrationRead, MigrationText, ModelDifferences
from api.migrations.state import require_head

# Rules of the lint that say: whoever runs an older version misses it, or writes what is refused from then on.
TAKES_AWAY: Final = {"add-not-null", "drop-column", "drop-table", "rename", "set-not-null"}


class ModelsUnchanged(ApictlError):
    """There is nothing to write: a migration that does nothing is none."""

    kind = Kind.CONFLICT
    code = "models-unchanged"
    title = "The models are what the database is already"
    default_hint = 'change a model first (api/*/models.py); for a migration without one: alembic revision -m "…"'


class AuthoringService:
    """Compares the models with a database, and writes what lies between; one instance serves one call."""

    def __init__(self, open_engine: Callable[[], AbstractAsyncContextManager[AsyncEngine]], actor: Actor) -> None:
        self._open_engine = open_engine
        self._actor = actor

    async def check_models(self) -> ModelDifferences:
        """Return where the database is not what the models say.

        Raises:
            SchemaBehind: Migrations are pending: it cannot be.
            DatabaseNewer: A newer version has migrated it.
        """
        self._actor.require(Scope.MIGRATIONS_READ)
        from api.migrations.script import differences  # noqa: PLC0415 - loads Alembic

        with translated():
            async with self._open_engine() as engine, AsyncSession(engine) as session:
                await require_head(session, exactly=True)
                found = await (await session.connection()).run_sync(differences)
        return ModelDifferences(differences=found)

    async def make_migration(self, text: str) -> MigrationMade:
        """Write a migration from the database to the models, in the folder of the source.

        Raises:
            SchemaBehind: Migrations are pending: they would be written once more.
            DatabaseNewer: A newer version has migrated it.
            ModelsUnchanged: There is nothing to write.
            BadRequest: The source is not here.
        """
        self._actor.require(Scope.MIGRATIONS_RUN)
        text = MigrationText(text=text).text
        from api.migrations.lint import look_at  # noqa: PLC0415 - loads Alembic
        from api.migrations.script import generate, sql_back  # noqa: PLC0415

        if folder() == PACKAGED:
            raise BadRequest("The migrations are in an installed package", hint="work in a clone of the source")
        with translated():
            async with self._open_engine() as engine, AsyncSession(engine) as session:
                await require_head(session, exactly=True)
                path = await (await session.connection()).run_sync(generate, text)
        if path is None:
            raise ModelsUnchanged
        tidy(path)
        chain.cache_clear()
        findings = look_at(read(path))
        if TAKES_AWAY & {finding.rule for finding in findings}:
            path.write_text(
                path.read_text(encoding="utf-8").replace('phase: str = "expand"', 'phase: str = "contract"')
            )
            chain.cache_clear()
            findings = look_at(read(path))
        made = read(path)
        back = sql_back(made.id, made.parent)
        lost = re.findall(r"^(?:ALTER TABLE \S+ ADD COLUMN|CREATE (?:UNLOGGED )?TABLE) \S+", back, re.MULTILINE)
        return MigrationMade(
            **dict(MigrationRead.model_validate(made)),
            path=str(path),
            findings=[FindingRead.model_validate(finding) for finding in findings],
            lost_on_rollback=lost,
        )


def tidy(path: Path) -> None:
    """Take out what Alembic says to itself, and format the file, if ruff is there."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.lstrip().startswith("# ###")), encoding="utf-8")
    if importlib.util.find_spec("ruff") is None:
        return
    for verb in (["check", "--quiet", "--fix"], ["format", "--quiet"]):
        # What it cannot mend, `make lint` says.
        subprocess.run([sys.executable, "-m", "ruff", *verb, str(path)], check=False, capture_output=True)  # noqa: S603
