"""The gate that CI stands on must be able to close."""

from typing import Any

import pytest

from tests.project.code import ROOT
from tools.coverage_gate import ONLY_ROOT, judge


def measured(lines: int, branches: int) -> dict[str, Any]:
    summary = {"covered_lines": lines, "num_statements": 100, "covered_branches": branches, "num_branches": 100}
    return {"missing_lines": [3, 4], "missing_branches": [[5, 6]], "summary": summary}


@pytest.mark.parametrize(
    ("lines", "branches", "code"), [(95, 90, 0), (100, 100, 0), (94, 100, 1), (100, 89, 1)], ids=str
)
def test_gate(lines: int, branches: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge({"files": {"api/main.py": measured(lines, branches)}}, as_root=True) == code
    assert ("api/main.py: 3, 4" in capsys.readouterr().out) == bool(code)


def test_others_are_not_held_to_what_only_root_can_reach() -> None:
    files = {"api/main.py": measured(100, 100)} | dict.fromkeys(ONLY_ROOT, measured(0, 0))
    assert [judge({"files": files}, as_root=root) for root in (True, False)] == [1, 0]
    assert all((ROOT / name).is_file() for name in ONLY_ROOT)
