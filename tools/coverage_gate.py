"""Holds lines and branches each to its own limit; coverage's `fail_under` knows only their mixture.

coverage json -o - | python -m tools.coverage_gate
"""

import json
import os
import sys
from typing import Any, Final

# What only root's embedded PostgreSQL does, and so only root's tests reach.
ONLY_ROOT: Final = {"api/postgres/account.py", "api/postgres/binaries.py", "api/postgres/folders.py"}
LIMITS: Final = {"lines": 95.0, "branches": 90.0}


def totals(files: dict[str, Any]) -> dict[str, int]:
    """Return the sums over these files."""
    names = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    return {name: sum(file["summary"][name] for file in files.values()) for name in names}


def percentages(totals: dict[str, Any]) -> dict[str, float]:
    """Return how much of the lines and of the branches was run."""
    counts = {
        "lines": (totals["covered_lines"], totals["num_statements"]),
        "branches": (totals["covered_branches"], totals["num_branches"]),
    }
    return {name: 100 * covered / total if total else 100.0 for name, (covered, total) in counts.items()}


def missing(files: dict[str, Any]) -> list[str]:
    """Return a line for each file that was not run in full, the worst one first."""
    gaps = [
        (len(file["missing_lines"]) + len(file["missing_branches"]), name, file["missing_lines"])
        for name, file in files.items()
    ]
    return [f"  {count:4} {name}: {', '.join(map(str, lines))}" for count, name, lines in sorted(gaps)[::-1] if count]


def judge(report: dict[str, Any], *, as_root: bool) -> int:
    """Print the percentages, and where there are gaps if a limit is missed; return the exit code."""
    files = report["files"] if as_root else {name: report["files"][name] for name in report["files"].keys() - ONLY_ROOT}
    found = percentages(totals(files))
    print("coverage: " + ", ".join(f"{found[name]:.1f} % of {name} (limit {LIMITS[name]:.0f})" for name in LIMITS))
    if all(found[name] >= limit for name, limit in LIMITS.items()):
        return 0
    print("error: too little of the code was run; lines and branches missed, by file:")
    print("\n".join(missing(files)))
    return 1


if __name__ == "__main__":
    sys.exit(judge(json.load(sys.stdin), as_root=os.geteuid() == 0))
