"""From a changed model to a migration, as a developer does it: in a copy of the source, by the command."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.code import ROOT
from tests.support.cases import THOROUGH
from tests.support.processes import Finished, bare_environment

RUN = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
sys.path.insert(0, ".")
from cli.main import main
for line in json.loads(sys.argv[1]):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(line)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
MODEL = "    last_login_at:"


class Developer:
    """Somebody with the source in a folder of their own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._environment = bare_environment(APICTL_DATABASE_URL=url)
        for name in ("api", "cli", "alembic"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)

    async def apictl(self, *lines: list[str]) -> list[Finished]:
        """Run some command lines, one after another, in a process of its own: it has read the models as they are."""
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", RUN, json.dumps(lines)],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return [Finished(*json.loads(line)) for line in ended.stdout.splitlines()]

    def change(self, old: str, new: str) -> None:
        models = self.folder / "api" / "users" / "models.py"
        text = models.read_text()
        assert old in text
        models.write_text(text.replace(old, new, 1))


@pytest.fixture
def developer(tmp_path: Path, database_url: str) -> Developer:
    folder = tmp_path / "source"
    folder.mkdir()
    return Developer(folder, database_url)


async def test_from_a_model_to_a_migration(developer: Developer) -> None:
    (nothing,) = await developer.apictl(["make-migration", "nothing"])
    assert (nothing.code, "hint: change a model" in nothing.err, nothing.out) == (5, True, ""), nothing.err
    developer.change(MODEL, f'    zone: Mapped[str] = mapped_column(server_default="UTC", index=True)\n{MODEL}')
    differs, made, behind, migrated, clean = await developer.apictl(
        ["check-models"],
        ["make-migration", "users have a zone", "-o", "json"],
        ["make-migration", "again"],
        ["migrate"],
        ["check-models", "-o", "json"],
    )
    assert (differs.code, "add column users.zone" in differs.out) == (10, True)
    assert made.code == 0, made.err
    said = json.loads(made.out)
    assert (said["phase"], [finding["rule"] for finding in said["findings"]]) == ("expand", ["create-index"])
    assert "create-index: nobody can write to users" in made.err
    path = Path(said["path"])
    assert (path.parent, path.name.endswith("_users_have_a_zone.py")) == (developer.folder / "alembic/versions", True)
    written = path.read_text()
    assert "###" not in written
    line = [sys.executable, "-m", "ruff", "format", "--check", str(path)]
    formatted = subprocess.run(line, capture_output=True, check=False, cwd=developer.folder)  # noqa: ASYNC221 - as above
    assert formatted.returncode == 0, written
    assert (behind.code, "apictl migrate" in behind.err) == (11, True)
    assert migrated.code == 0, migrated.err
    assert (clean.code, json.loads(clean.out)) == (0, {"differences": []})


@pytest.mark.skipif(not THOROUGH, reason="seconds of Alembic from nothing: CI's second run has them")
async def test_what_takes_away_is_a_contract_step(developer: Developer) -> None:
    developer.change("    full_name: ", "    other_name: ")
    (made,) = await developer.apictl(["make-migration", "users have another name", "-o", "json"])
    assert made.code == 0, made.err
    said = json.loads(made.out)
    assert said["phase"] == "contract"
    assert said["lost_on_rollback"] == ["ALTER TABLE users ADD COLUMN full_name"]
    assert "cannot bring back what was there" in made.err
