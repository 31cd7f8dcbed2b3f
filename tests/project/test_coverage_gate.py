"""The gate that CI stands on must be able to close."""

import pytest

from tools.coverage_gate import judge


@pytest.mark.parametrize(
    ("lines", "branches", "code"), [(95, 90, 0), (100, 100, 0), (94, 100, 1), (100, 89, 1)], ids=str
)
def test_gate(lines: int, branches: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    totals = {
        "covered_lines": lines,
        "num_statements": 100,
        "covered_branches": branches,
        "num_branches": 100,
    }
    files = {"api/main.py": {"missing_lines": [3, 4], "missing_branches": [[5, 6]]}}
    assert judge({"totals": totals, "files": files}) == code
    assert ("api/main.py: 3, 4" in capsys.readouterr().out) == bool(code)
