"""How help looks: plain text under bold headings, the options of one kind together."""

import os
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from cli.commands import COMMANDS

HEADING: Final = "\x1b[1m{}\x1b[0m"
# The longest line that reads well, and the column where texts begin at the latest.
WIDEST: Final = 100
FAR: Final = 30
EXAMPLE: Final = "Example: "

ROOT: Final = """\
Manage users, tokens and migrations from the terminal, by the rules of the HTTP API.

Example: apictl create-user ada@example.com --generate-password"""
ROOT_OPTIONS: Final = [("--version, -V", "Print the version."), ("--help, -h", "Print this help.")]
EXIT_CODES: Final = {
    0: "done",
    1: "a bug",
    2: "usage",
    3: "not found",
    4: "not allowed",
    5: "conflict",
    6: "refused",
    7: "try again",
    8: "declined",
    9: "some rows refused",
    10: "pending",
    11: "schema",
    12: "misconfigured",
}
EPILOG: Final = f"Exit codes: {', '.join(f'{code} {text}' for code, text in EXIT_CODES.items())}."


def root_help() -> str:
    """Return the help of `apictl` itself; Typer, which would take most of the time, has no part in it."""
    panels: dict[str, list[tuple[str, str]]] = {"Options": ROOT_OPTIONS}
    for name, entry in COMMANDS.items():
        panels.setdefault(entry.panel, []).append((name, entry.summary))
    return page("apictl [OPTIONS] COMMAND [ARGS]...", ROOT, panels, EPILOG)


def page(usage: str, text: str, panels: dict[str, list[tuple[str, str]]], epilog: str = "") -> str:
    """Return a page of help: what it is for, then names with their texts under the headings of their panels."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    # On all panels alike, so that texts are below each other.
    column = min(FAR, max(len(name) for rows in panels.values() for name, _ in rows) + 4)
    lines = [f"{heading('Usage:')} {usage}"]
    # Examples first: they say most in the least time, and are there to be copied.
    for paragraph in sorted(text.split("\n\n"), key=lambda one: not one.startswith(EXAMPLE)):
        lines += ["", *([paragraph] if paragraph.startswith(EXAMPLE) else wrapped(paragraph, width))]
    for name, rows in panels.items():
        lines += ["", heading(f"{name}:"), *definitions(rows, column, width)]
    if epilog:
        lines += ["", *wrapped(epilog, width)]
    return "\n".join(lines)


def definitions(rows: Iterable[tuple[str, str]], column: int, width: int) -> Iterator[str]:
    """Yield names, each with its text beside it, or below it where the name is long."""
    for name, text in rows:
        beside = wrapped(text, max(width - column, 20)) or [""]
        first = f"  {name}"
        if len(first) + 2 > column:
            yield first
        else:
            beside[0] = first.ljust(column) + beside[0]
            yield beside.pop(0).rstrip()
        yield from (" " * column + line for line in beside)


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text, whose words and options are whole."""
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def heading(text: str) -> str:
    """Return a heading; `cli.main.without_colors` says where none is bold."""
    return text if os.environ.get("TERM") == "dumb" else HEADING.format(text)
