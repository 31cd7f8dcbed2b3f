"""The gate that CI stands on must be able to close."""

import json
import os
from pathlib import Path

import pytest

from tests.project.code import ROOT
from tests.support.cases import THOROUGH
from tools.coverage_gate import ONLY_ROOT, Places, judge, read


def measured(lines: int, branches: int) -> dict[str, Places]:
    every: dict[str, list[object]] = {"lines": [*range(1, 101)], "branches": [(n, n + 1) for n in range(1, 101)]}
    return {
        kind: Places(all=set(every[kind]), missed=set(every[kind][: 100 - run]))
        for kind, run in (("lines", lines), ("branches", branches))
    }


@pytest.mark.parametrize(
    ("lines", "branches", "code"), [(95, 90, 0), (100, 100, 0), (94, 100, 1), (100, 89, 1)], ids=str
)
def test_gate(lines: int, branches: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge({"api/main.py": measured(lines, branches)}, as_root=True) == code
    assert ("api/main.py: 1" in capsys.readouterr().out) == bool(code)


def test_a_run_that_measured_nothing_is_not_good_enough() -> None:
    assert judge({}, as_root=True) == 1


def test_others_are_not_held_to_what_only_root_can_reach() -> None:
    files = {"api/main.py": measured(100, 100)} | dict.fromkeys(ONLY_ROOT, measured(0, 0))
    assert [judge(files, as_root=root) for root in (True, False)] == [1, 0]
    assert all((ROOT / name).is_file() for name in ONLY_ROOT)


@pytest.mark.skipif(not THOROUGH, reason="a suite in the suite: CI's second run has it")
def test_what_the_processes_have_seen_is_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    nothing = read(tmp_path)["api/core/ids.py"]
    assert nothing["lines"].missed == nothing["lines"].all != set()
    line, branch = min(nothing["lines"].all), min(nothing["branches"].all)  # type: ignore[type-var]  # numbers, pairs
    for name, place in (("a.json", line), ("b.json", branch)):
        (tmp_path / name).write_text(json.dumps({os.fspath(ROOT / "api/core/ids.py"): [place]}))
    found = read(tmp_path)["api/core/ids.py"]
    assert found["lines"].all - found["lines"].missed == {line}
    assert found["branches"].all - found["branches"].missed == {branch}
