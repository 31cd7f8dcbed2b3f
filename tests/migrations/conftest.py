"""A folder of migrations that a test may add to."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.core.actor import Actor
from api.core.runtime import Runtime
from api.migrations import authoring, revisions, runner, script
from api.migrations.schemas import MigrationRun, MigrationUpgrade
from api.migrations.service import MigrationService
from tests.project.code import ROOT

FILE = '''"""{text}."""

import sqlalchemy as sa
from alembic import op

revision = {id!r}
down_revision = {parent!r}
{more}

def upgrade():
    {up}


def downgrade():
    {down}
'''


class Source:
    """A copy of the project's migrations, with more of a test's own."""

    def __init__(self, folder: Path) -> None:
        self._versions = folder / "versions"

    def add(self, name: str, up: str, down: str = "pass", *, phase: str = "expand", **more: Any) -> str:
        """Add a migration on top, and return its revision."""
        written = "\n".join(f"{key} = {value!r}" for key, value in {"phase": phase, **more}.items())
        text = FILE.format(text=name, id=name, parent=revisions.head(), more=written + "\n", up=up, down=down)
        (self._versions / f"{name}.py").write_text(text)
        revisions.chain.cache_clear()
        return name

    def remove(self, *names: str) -> None:
        """Be an older version, which does not know of these."""
        for name in names:
            (self._versions / f"{name}.py").unlink()
        revisions.chain.cache_clear()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    """The folder, in place of the project's."""
    folder = tmp_path / "alembic"
    shutil.copytree(ROOT / "alembic", folder)
    for module in (revisions, script, authoring):
        monkeypatch.setattr(module, "folder", lambda: folder)
    revisions.chain.cache_clear()
    yield Source(folder)
    revisions.chain.cache_clear()


class Operator:
    """Who migrates, in this process."""

    def __init__(self, runtime: Runtime) -> None:
        self.said: list[str] = []
        actor = Actor.operator("tests")
        self.service = MigrationService(runtime.transaction, runtime.patient_engine, actor)
        self.authoring = authoring.AuthoringService(runtime.patient_engine, actor)

    async def migrate(self, *, dry_run: bool = False, **how: Any) -> MigrationRun:
        return await self.service.upgrade(MigrationUpgrade(**how), dry_run=dry_run, say=self.said.append)


@pytest.fixture
def operator(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """An operator at this test's database."""
    # A process has one event loop, and a process of tests has many.
    monkeypatch.setattr(runner, "_one_at_a_time", asyncio.Lock())
    return Operator(runtime)
