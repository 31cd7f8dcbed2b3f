"""What a person reads: tables, objects, lines; as wide as the terminal, and in the pager where longer than it."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from cli.errors import printable
from cli.output import Item, Listing, Style, picked, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Characters between two columns; and those of a text that it is not broken within.
GAP: Final = 2
ROOMY: Final = 36


def show_table(result: Item | Listing, rows: list[dict[str, Any]], style: Style) -> None:
    """Print a table, or one object as a column of its fields."""
    missing = on_screen(lambda screen: draw(screen, result, rows, style), style)
    if missing:
        style.say(missing)


def show_lines(lines: Sequence[tuple[str, str]], style: Style) -> None:
    """Print lines, each in a style of its own."""

    def drawn(screen: "Console") -> None:
        for look, line in lines:
            screen.print(printable(line), style=look, markup=False, emoji=False, soft_wrap=True)

    on_screen(drawn, style)


def on_screen(drawing: "Callable[[Console], str | None]", style: Style) -> str | None:
    """Draw something, and show it: in the pager where it is longer than the screen. Returns what drawing it does."""
    from rich.console import Console

    colorless = os.environ.get("TERM") == "dumb"
    # Rich would take a dumb terminal for one of 80 columns, unless it knows both.
    size = shutil.get_terminal_size()
    color = None if colorless else "auto"
    screen = Console(highlight=False, color_system=color, width=size.columns, height=size.lines)  # type: ignore[arg-type]
    with screen.capture() as drawn:
        said = drawing(screen)
    text = drawn.get()
    if style.paged and text.count("\n") >= size.lines and sys.stdin.isatty() and sys.stdout.isatty():
        from cli.pager import page_through

        if page_through(text):
            return said
    sys.stdout.write(text)
    return said


def draw(screen: "Console", result: Item | Listing, rows: list[dict[str, Any]], style: Style) -> str | None:
    """Draw a table, or one object; return what is to be said about what is missing there."""
    from rich.padding import Padding
    from rich.text import Text

    if isinstance(result, Item):
        shown = picked(rows[0], style.fields)
        width = max(map(len, shown))
        for name, value in shown.items():
            inner = value if is_nested(value) else None
            # One line each, never broken: a token or an id is there to be copied.
            line = Text.assemble((name.ljust(width), "cyan"), "  ", "" if inner else readable(value))
            screen.print(line, soft_wrap=True)
            if inner:
                # What is in that in turn has no room there.
                inside = [name for name in inner[0] if not any(is_nested(row.get(name)) for row in inner)]
                screen.print(Padding(table(inner, fitting(inner, inside, screen.width - 2)), (0, 0, 0, 2)))
        return None
    if not rows:
        return "There is nothing to show."
    names = style.fields or fitting(rows, result.table, screen.width)
    screen.print(table(rows, names))
    left_out = [] if style.fields else [name for name in result.table if name not in names]
    if not left_out:
        return None
    return f"No room for {', '.join(left_out)}: widen the terminal, or name what you want with --fields"


def is_nested(value: Any) -> bool:
    """Tell whether a value is a list of objects."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def fitting(rows: list[dict[str, Any]], names: Sequence[str], width: int) -> list[str]:
    """Return those columns, the first ones first, that have room beside each other."""
    found: list[str] = []
    taken = 0
    for name in names:
        # A long text breaks; an id or a time broken in pieces is none.
        cells = [min(len(readable(row.get(name))), ROOMY) for row in rows]
        needed = max([len(heading(name)), *cells]) + GAP
        if not found or taken + needed - GAP <= width:
            found.append(name)
            taken += needed
    return found


def heading(name: str) -> str:
    """Return what stands over a column."""
    return name.removeprefix("is_").replace("_", " ").upper()


def table(rows: list[dict[str, Any]], names: Sequence[str]) -> "Table":
    """Return rows as a table, whose cells break where it is too wide."""
    from rich.table import Table
    from rich.text import Text

    found = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        # Half an id or address is none: let other columns give way.
        whole = name == "id" or name.endswith("email")
        found.add_column(heading(name), overflow="fold", no_wrap=whole)
    for row in rows:
        found.add_row(*(Text(readable(row.get(name))) for name in names))
    return found


def readable(value: Any) -> str:
    """Return a value as a person reads it: yes and no, times to the second, no JSON."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, dict):
        return " ".join(f"{name}={plain(inner)}" for name, inner in value.items())
    text = plain(value)
    if len(text) == 27 and text.endswith("Z") and text[10] == "T" and text[19] == ".":
        return f"{text[:10]} {text[11:19]}Z"
    return text
