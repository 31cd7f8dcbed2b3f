"""The wheel: holds what it should and nothing else, and works from any folder, without the clone."""

import asyncio
import json
import signal
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

import httpx2
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from api import __version__
from tests.project.code import ROOT
from tests.support.processes import run

TIMEOUT: Final = 60
SCRIPT: Final = "import sys\nfrom {module} import {name}\nsys.exit({name}())\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as for a release."""
    folder = tmp_path_factory.mktemp("dist")
    # No build isolation: that would ask the network for hatchling.
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        check=True, cwd=ROOT, capture_output=True, timeout=TIMEOUT,
    )  # fmt: skip
    (built,) = folder.glob("apictl-*.whl")
    return built


@pytest.fixture(scope="module")
def packages(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel in it, in a folder with a space, and what the wheel asks for and no more."""
    environment = tmp_path_factory.mktemp("an empty") / "environment"
    venv.create(environment, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (installed,) = Distribution.discover(name="apictl", path=[str(packages)])
    for dependency in asked_for(installed):
        for name in {file.parts[0] for file in dependency.files or []} - {"..", "__pycache__"}:
            (packages / name).symlink_to(str(dependency.locate_file(name)))
    return packages


def asked_for(asking: Distribution) -> list[Distribution]:
    """Return what a distribution requires, directly or not, as this environment has it: the network is not asked."""
    found: dict[str, Distribution] = {}
    open_ends: list[tuple[Distribution, str]] = [(asking, "")]
    done: set[tuple[str, str]] = set()
    while open_ends:
        one, extra = open_ends.pop()
        for requirement in map(Requirement, one.requires or []):
            name = canonicalize_name(requirement.name)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            found.setdefault(name, distribution(name))
            wanted = {(name, extra) for extra in {"", *requirement.extras}} - done
            done |= wanted
            open_ends += [(found[name], extra) for _, extra in wanted]
    return list(found.values())


@pytest.fixture(scope="module")
def program(packages: Path) -> list[str]:
    """The command that the wheel's metadata asks an installer to make."""
    (points,) = packages.glob("apictl-*.dist-info/entry_points.txt")
    module, _, name = points.read_text().split("apictl = ")[1].strip().partition(":")
    python = packages.parents[2] / "bin" / "python"
    script = python.with_name("apictl")
    script.write_text(SCRIPT.format(module=module, name=name))
    return [str(python), str(script)]


@pytest.fixture
def bare(environment: dict[str, str]) -> dict[str, str]:
    """A process's environment in which nothing leads back to our clone."""
    return {name: value for name, value in environment.items() if not name.startswith("PYTHON")}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder that is not the clone's, in which a command with a database URL has nothing to write."""
    folder = tmp_path / "another folder"
    folder.mkdir()
    yield folder
    assert not list(folder.iterdir())


def ours() -> set[str]:
    """Return what the wheel should hold, by the names it should have there."""
    places = {
        "api": "api",
        "cli": "cli",
        "alembic": "api/_alembic",
        "docs/man": f"apictl-{__version__}.data/data/share/man/man1",
    }
    found = {path: folder for folder in places for path in (ROOT / folder).rglob("*") if path.is_file()}
    return {f"apictl-{__version__}.data/data/share/apictl/state.schema.json"} | {
        f"{places[folder]}/{path.relative_to(ROOT / folder).as_posix()}"
        for path, folder in found.items()
        if path.parent.name != "__pycache__"
    }


def test_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == ours()
    assert {"api/_alembic/env.py", "api/_alembic/script.py.mako"} <= held
    assert any(name.startswith("api/_alembic/versions/") for name in held)
    # Where an installer puts what `man apictl` looks for.
    assert f"apictl-{__version__}.data/data/share/man/man1/apictl.1" in held


async def test_migrate(program: list[str], bare: dict[str, str], elsewhere: Path, empty_url: str) -> None:
    bare["APICTL_DATABASE_URL"] = empty_url
    python, script = program
    where = await run(
        "-c", "import api, cli; print(api.__file__, cli.__file__)", program=python, environment=bare, cwd=elsewhere
    )
    assert str(ROOT) not in where.out, "the code under test is the clone's"
    first = await run(script, "migrate", "-o", "json", program=python, environment=bare, cwd=elsewhere)
    assert first.code == 0, first.err
    assert first.json()["changed"] is True
    second = await run(script, "migrate", "-o", "json", program=python, environment=bare, cwd=elsewhere)
    assert second.json()["changed"] is False
    # This needs what is imported only where it is used.
    line = (script, "create-user", "ada@example.com", "--password-stdin", "-o", "yaml")
    created = await run(*line, program=python, environment=bare, cwd=elsewhere, stdin="correct horse battery staple")
    assert created.code == 0, created.err


async def test_serve(program: list[str], bare: dict[str, str], elsewhere: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *program, "serve", "--port", "0",
        env=bare, cwd=elsewhere, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(TIMEOUT):
            first = (await process.stderr.readline()).decode()
            line = json.loads(first)["message"] if first.startswith("{") else first
            assert line.startswith("Serving on http://"), first + (await process.stderr.read()).decode()
            # The socket listens before the application is ready: a request waits for it.
            async with httpx2.AsyncClient(base_url=line.split()[2], timeout=TIMEOUT) as client:
                assert (await client.get("/health/ready")).json() == {"status": "ok"}
                assert (await client.get("/docs/files/swagger-ui.css")).status_code == 200
            process.send_signal(signal.SIGTERM)
            await process.stderr.read()
            assert await process.wait() == 143
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
