"""What a command does, by its kind, and the options that it has for that."""

from typing import Annotated, Any, Literal

import typer

from cli.output import Format

Kind = Literal[
    "read",
    "write",
    "destroy",
    "bulk",
    "export",
    "schema",
    "first",
    "rewind",
    "source",
    "host",
    "remote",
    "local",
    "checks",
    "plain",
]
"""What a command does: reads, writes, destroys (and asks first), writes or reads without end, makes the schema, makes
it before there is a server, takes it back (and asks first), writes source, serves, asks a server, says what this
machine knows, looks whether anything works, or says what it alone knows."""

SHARED_PANEL = "Options of every command"


def option(*names: str, text: str, count: bool = False) -> Any:
    """Return the declaration of an option that every command has."""
    return typer.Option(*names, help=text, rich_help_panel=SHARED_PANEL, show_default=False, count=count)


COMMON: dict[str, tuple[Any, Any]] = {
    "output": (Annotated[Format | None, option("--output", "-o", text="How to print the result.")], None),
    "fields": (Annotated[str | None, option("--fields", text="Only these fields, separated by commas.")], None),
    "quiet": (Annotated[bool, option("--quiet", "-q", text="Print no messages, only data and errors.")], False),
    "verbose": (
        Annotated[
            int,
            option("--verbose", "-v", text="Log to stderr what is done; twice, every SQL statement too.", count=True),
        ],
        0,
    ),
    "profile": (
        Annotated[
            str | None,
            option("--profile", text="Settings from ~/.config/apictl/NAME.env, not .env (also APICTL_PROFILE)."),
        ],
        None,
    ),
    # Read from the command line before it is parsed (see `cli.main.without_colors`); here for the help.
    "no_color": (Annotated[bool, option("--no-color", text="No colours (also NO_COLOR).")], False),
    "no_pager": (Annotated[bool, option("--no-pager", text="Show what is longer than the screen at once.")], False),
    "no_input": (Annotated[bool, option("--no-input", text="Never ask: fail with exit code 2.")], False),
    "debug": (Annotated[bool, option("--debug", text="Show the traceback of an internal error.")], False),
}
ACTING: dict[str, tuple[Any, Any]] = {
    "as_user": (
        Annotated[str | None, option("--as", text="Do only what this user (id or e-mail) may do.")],
        None,
    )
}
MUTATING: dict[str, tuple[Any, Any]] = {
    "dry_run": (Annotated[bool, option("--dry-run", text="Do everything, then undo it.")], False),
}
ONCE: dict[str, tuple[Any, Any]] = {
    "idempotency_key": (
        Annotated[
            str | None,
            option("--idempotency-key", text="Do it once, however often it is run with this key within a day: a UUID."),
        ],
        None,
    ),
}
DESTROYING: dict[str, tuple[Any, Any]] = {
    "yes": (Annotated[bool, option("--yes", "-y", text="Do not ask for confirmation.")], False),
}
ON_A_SERVER: dict[str, tuple[Any, Any]] = {
    "server": (
        Annotated[str | None, option("--server", text="Work on this server, over HTTP (also APICTL_SERVER).")],
        None,
    ),
}
OPTIONS: dict[Kind, dict[str, tuple[Any, Any]]] = {
    "read": COMMON | ACTING | ON_A_SERVER,
    "write": COMMON | ACTING | ON_A_SERVER | MUTATING | ONCE,
    "destroy": COMMON | ACTING | ON_A_SERVER | MUTATING | ONCE | DESTROYING,
    "bulk": COMMON | ACTING | ON_A_SERVER | MUTATING,
    "export": COMMON | ACTING | ON_A_SERVER,
    "schema": COMMON | ON_A_SERVER | MUTATING,
    "first": COMMON | MUTATING,
    "rewind": COMMON | MUTATING | DESTROYING,
    "source": COMMON,
    "host": COMMON,
    "remote": COMMON,
    "local": COMMON,
    "checks": COMMON | ON_A_SERVER,
    "plain": {},
}
