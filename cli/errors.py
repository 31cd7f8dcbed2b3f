"""How the terminal renders failures: `error:`, `cause:`, `hint:` on stderr, or the problem object with `-o json`."""

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from api.core.errors import ApictlError


def wants_json(arguments: list[str]) -> bool:
    """Tell whether the command line asks for JSON; asked of the text, because it may not have been parsed."""
    for position, argument in enumerate(arguments):
        following = arguments[position + 1 : position + 2]
        if argument in {"-o", "--output"} and following in (["json"], ["jsonl"]):
            return True
        if argument in {"-ojson", "-ojsonl", "--output=json", "--output=jsonl"}:
            return True
    return False


def show(error: "ApictlError", *, as_json: bool) -> None:
    """Print a failure to stderr."""
    if as_json:
        print(json_text(error.problem()), file=sys.stderr)
        return
    lines = [("error", error.detail), ("cause", error.cause), ("hint", error.hint)]
    if len(error.errors) > 1:
        lines[1:1] = [("field", f"{item['field']}: {item['message']}") for item in error.errors]
    for label, text in lines:
        if text:
            # Further lines are indented: none of them is taken for a line of ours.
            print(f"{label}: " + on_lines(text, "\n  "), file=sys.stderr)


def unwritten(error: OSError) -> int:
    """Say that the output could not be written (/dev/full, or a disk without space), and return the exit code.

    To a reader that went away, nothing is to be said.
    """
    is_left = isinstance(error, BrokenPipeError)
    if not is_left:
        sys.stderr.write(f"error: the output could not be written: {error.strerror}\n")
    # What is still buffered must not fail once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141 if is_left else 1


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return JSON in which what a terminal would obey is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text if text.replace("\n", "").isprintable() else json.dumps(value, indent=indent)


def printable(text: str) -> str:
    """Return the text with what a terminal would obey escaped, ends of lines too."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def on_lines(text: str, between: str = "\n") -> str:
    """Return the text with the same escaped but ends of lines, for which this stands."""
    return between.join(map(printable, text.split("\n")))
