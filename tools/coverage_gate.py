"""Adds up what the processes of a run of the tests have seen, and holds lines and branches each to its own limit.

python -m tools.coverage_gate FOLDER    (who writes into it: tests/support/measuring.py)
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipcover import Slipcover

# What only root's embedded PostgreSQL does, and so only root's tests reach.
ONLY_ROOT: Final = {"api/postgres/account.py", "api/postgres/binaries.py", "api/postgres/folders.py"}
LIMITS: Final = {"lines": 95.0, "branches": 90.0}


@dataclass(frozen=True, slots=True)
class Places:
    """The lines of a file, or its branches (from line, to line)."""

    all: set[object]
    missed: set[object]


Report = Mapping[str, Mapping[str, Places]]


def percentages(report: Report) -> dict[str, float]:
    """Return how much of the lines and of the branches was run."""
    found = {}
    for kind in LIMITS:
        total = sum(len(file[kind].all) for file in report.values())
        missed = sum(len(file[kind].missed) for file in report.values())
        found[kind] = 100 * (total - missed) / total if total else 0.0
    return found


def gaps(report: Report) -> Iterable[str]:
    """Return a line for each file that was not run in full, the worst one first."""
    counted = [(sum(len(file[kind].missed) for kind in LIMITS), name) for name, file in report.items()]
    for count, name in sorted(counted)[::-1]:
        if count:
            places = [*report[name]["lines"].missed, *report[name]["branches"].missed]
            yield f"  {count:4} {name}: {', '.join(sorted(map(place, places), key=in_order))}"


def place(one: object) -> str:
    """Return a line, or a branch: 12 or 12->15; a branch to line 0 leaves the function."""
    return "->".join(map(str, one)) if isinstance(one, tuple) else str(one)


def in_order(shown: str) -> list[int]:
    """Return the key by which places are sorted."""
    return [int(number) for number in shown.split("->")]


def judge(report: Report, *, as_root: bool) -> int:
    """Print the percentages, and where there are gaps if a limit is missed; return the exit code."""
    counted = report if as_root else {name: file for name, file in report.items() if name not in ONLY_ROOT}
    found = percentages(counted)
    print("coverage: " + ", ".join(f"{found[kind]:.1f} % of {kind} (limit {LIMITS[kind]:.0f})" for kind in LIMITS))
    if all(found[kind] >= limit for kind, limit in LIMITS.items()):
        return 0
    print("error: too little of the code was run; lines and branches missed, by file:")
    print("\n".join(gaps(counted)))
    return 1


def read(folder: Path) -> Report:
    """Return what is in the code, and what of it no process has seen."""
    seen: dict[str, set[object]] = {}
    for written in folder.glob("*.json"):
        for file, places in json.loads(written.read_bytes()).items():
            known = seen.setdefault(os.path.relpath(file), set())
            known.update(tuple(place) if isinstance(place, list) else place for place in places)
    # It has run nothing: all of the code is missing.
    code = Slipcover(branch=True, source=["api", "cli"]).get_coverage()["files"]
    report = {}
    for name, file in code.items():
        everything = {"lines": set(file["missing_lines"]), "branches": set(file["missing_branches"])}
        report[name] = {
            kind: Places(all=places, missed=places - seen.get(name, set())) for kind, places in everything.items()
        }
    return report


if __name__ == "__main__":
    sys.exit(judge(read(Path(sys.argv[1])), as_root=os.geteuid() == 0))
