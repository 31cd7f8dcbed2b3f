"""One list of what there is to do, and one gate, whoever asks for it."""

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import pytest
import yaml

import faults.__main__
import fuzz.__main__
from tests.project.code import ROOT

MAKEFILE: Final = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS: Final = re.findall(r"^\.PHONY: (help .*)$", MAKEFILE, re.MULTILINE)[0].split()


def test_help_lists_every_target() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"^  make (\S+) +\S", shown, re.MULTILINE) == TARGETS


@pytest.mark.parametrize("name", [".ci/run", ".github/workflows/check.yml"])
def test_ci_calls_the_same_gate(name: str) -> None:
    assert re.search(r"^(make check|      - run: make check PYTHON=python)$", (ROOT / name).read_text(), re.MULTILINE)


def test_the_workflow_runs_every_python_that_we_name() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == named


@pytest.mark.parametrize(("main", "one"), [(faults.__main__.main, "disk_full"), (fuzz.__main__.main, "cursor")])
def test_a_name_that_there_is_not_is_no_run_of_nothing(
    main: Callable[[], int], one: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["make", one, "nosuch"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err.splitlines()[-1]
    assert (ended.value.code, "there is no nosuch; there are: " in told, one in told) == (2, True, True)


def test_git_leaves_out_what_the_readme_s_commands_write() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    written = set(re.findall(r"^\$ .*(?:--(?:keys-)?to |>)(\w+\.(?:csv|jsonl?))", readme, re.MULTILINE))
    assert len(written) > 4
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {f"/{name}" for name in written} | {"/mail/"} <= set(ignored)
