"""What the documentation says of the code is what the code says."""

import ast
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from api.core.errors import Kind
from cli.commands import COMMANDS
from cli.help import EXIT_CODES
from tests.project.code import sources
from tools.docs import DOCS, PLACE, ROOT, TABLES, files, readme
from tools.manual import text

FILES: Final = files()
MANUAL: Final = [path for path in FILES if path.parent.name == "man"]
# Programs that set manual pages, with what makes them tell what they do not understand. (mandoc would also warn that no
# page has a date: it would be out of date.)
SETTERS: Final = {
    "groff": ["groff", "-man", "-Kutf8", "-Tutf8", "-ww", "-z"],
    "mandoc": ["mandoc", "-T", "lint", "-W", "error"],
}


@pytest.mark.parametrize(("path", "wanted"), FILES.items(), ids=lambda value: getattr(value, "name", ""))
def test_written_from_the_code(path: Path, wanted: str) -> None:
    assert path.exists(), f"{path.name} is missing: run `make docs`"
    assert path.read_text(encoding="utf-8") == wanted, f"{path.name} is out of date: run `make docs`"


@pytest.mark.parametrize("name", ["commands", "errors"])
def test_readme_has_the_table(name: str) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert name in [place[2] for place in PLACE.finditer(page)], f"README.md lacks <!-- table: {name} -->"


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_renewed(name: str) -> None:
    old = f"before\n<!-- table: {name} -->\n| outdated |\n<!-- /table -->\nafter\n"
    new = readme(old)
    assert TABLES[name]() in new
    assert "outdated" not in new
    assert readme(new) == new


def test_readme_has_every_action_of_the_audit_log() -> None:
    """Whoever filters by one must know what they are called."""
    targets = "user|session|role|api_key|signing_key|device|state|migration|access"
    found = set()
    for _, tree in sources("api"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(rf"^({targets})\.([a-z_]+)$", node.value))
    found -= {("user", "id")}
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = page.partition("What `--action` may be: ")[2].partition(". A ")[0]
    assert set(re.findall(r"`([a-z_.]+)`", listed)) == {f"{target}.{verb}" for target, verb in found}


def test_every_exit_code_has_a_meaning() -> None:
    # 0 and 10 are no failures.
    assert set(EXIT_CODES) == {0, 9, 10} | {kind.exit_code for kind in Kind}


def test_manual_pages() -> None:
    assert {path.name for path in MANUAL} == {"apictl.1", *(f"apictl-{name}.1" for name in COMMANDS)}
    left_over = set((DOCS / "man").iterdir()) - set(MANUAL)
    assert not left_over, f"of commands that are no more: {', '.join(path.name for path in left_over)}"


@pytest.mark.parametrize("program", SETTERS)
def test_manual_pages_can_be_set(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here")
    done = subprocess.run([*SETTERS[program], *MANUAL], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_escaped() -> None:
    assert text("--if-exists") == r"\-\-if\-exists"
    assert text(".env, and 'the' \"other\" \\n") == r"\&.env, and \(aqthe\(aq \(dqother\(dq \en"
    assert text("'so'") == r"\(aqso\(aq"
