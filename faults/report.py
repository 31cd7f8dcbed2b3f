"""What a run of `make faults` has seen: on the terminal, and in docs/reliability.md."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
BELOW: Final = "<!-- What follows is not written by make faults. -->\n"
HEAD: Final = """# Reliability

Written by `make faults` on {day}: {cores} cores, which also carry PostgreSQL and the load; {system}; {versions}. Each
fault is a real one: processes are killed, a proxy between server and database falls silent or cuts, a disk fills up.
{result}

"""


class Seen(NamedTuple):
    """One fault: what must hold, what was seen, and whether it held; None: it could not be tried here."""

    fault: str
    must: str
    was: str
    held: bool | None


def table(seen: list[Seen]) -> list[str]:
    """Return the table, a line each, in Markdown."""
    words = {True: "yes", False: "**no**", None: "not tried"}
    lines = ["| fault | what must hold | what was seen | held |", "|---|---|---|---|"]
    return lines + [f"| {one.fault} | {one.must} | {one.was} | {words[one.held]} |" for one in seen]


def write(seen: list[Seen], postgres: str) -> None:
    """Write the page; what a person wrote below the table stays."""
    _, _, kept = PAGE.read_text(encoding="utf-8").partition(BELOW) if PAGE.exists() else ("", "", "")
    failed = sum(one.held is False for one in seen)
    parts = ("fastapi", "uvicorn", "asyncpg", "SQLAlchemy")
    head = HEAD.format(
        day=datetime.now(UTC).date(),
        cores=os.cpu_count(),
        system=f"{platform.system()} {platform.machine()}",
        versions=", ".join(
            [f"Python {platform.python_version()}", postgres, *(f"{name} {version(name)}" for name in parts)]
        ),
        result=f"**{failed} did not hold.**" if failed else "All that could be tried held.",
    )
    PAGE.write_text(head + "\n".join(table(seen)) + "\n\n" + BELOW + kept, encoding="utf-8")
