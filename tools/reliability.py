"""docs/reliability.md: what runs of `make faults` and of `make fuzz` have seen, each in a part of its own."""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"


def place(*more: str) -> str:
    """Return when and on what something was seen, in words."""
    parts = (f"{name} {version(name)}" for name in ("fastapi", "uvicorn", "asyncpg", "SQLAlchemy"))
    versions = ", ".join([f"Python {platform.python_version()}", *more, *parts])
    return f"{datetime.now(UTC).date()}: {os.cpu_count()} cores; {platform.system()} {platform.machine()}; {versions}"


def write(part: str, text: str) -> None:
    """Put a text in the place of a part, between `<!-- part -->` and `<!-- /part -->`; the rest of the page stays."""
    page = PAGE.read_text(encoding="utf-8")
    mark = re.compile(rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)", re.DOTALL)
    written, count = mark.subn(lambda found: f"{found[1]}{text}\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"{PAGE} has no part {part}")
    PAGE.write_text(written, encoding="utf-8")
