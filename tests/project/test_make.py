"""One list of what there is to do, and one gate, whoever asks for it."""

import re
import subprocess
from typing import Final

import pytest
import yaml

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
