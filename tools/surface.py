"""What can be typed after `apictl`: one walk over the commands, and the snapshot of all that scripts rely on.

How the walk's findings look to people is in `tools.reference` and `tools.manual`.
"""

import inspect
import json
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from cli.app import build
from cli.commands import COMMANDS, load
from cli.help import EXAMPLE, ROOT_OPTIONS
from cli.offers import choices
from cli.options import SHARED_PANEL

Facts = dict[str, Any]
"""What a script relies on about one spelling; what is not the case is left out."""
Surface = dict[str, dict[str, Facts]]
"""The facts, by command and spelling; those of `apictl` itself are below that name."""


class Parameter(NamedTuple):
    """An argument, or an option."""

    # Of an argument, the one name in its place; of a switch, also the names that turn it off.
    names: tuple[str, ...]
    opposites: tuple[str, ...]
    # Which argument it is, from 1.
    position: int | None
    # The kind of value; None for a switch.
    value: str | None
    choices: tuple[str, ...]
    default: Any
    required: bool
    repeats: bool
    # An option of many commands, shown apart from a command's own.
    shared: bool
    text: str


class Command(NamedTuple):
    """A command, as its help shows it."""

    name: str
    panel: str
    summary: str
    paragraphs: list[str]
    examples: list[str]
    usage: str
    parameters: list[Parameter]


@cache
def walk() -> tuple[Command, ...]:
    """Return every command, in the order of `apictl --help`."""
    panels = list(dict.fromkeys(entry.panel for entry in COMMANDS.values()))
    return tuple(sorted(map(read, COMMANDS), key=lambda command: panels.index(command.panel)))


def read(name: str) -> Command:
    """Return a command."""
    built = build(name)
    # Parses nothing, and runs nothing: only what Typer says about a command asks for it.
    context = built.make_context(f"apictl {name}", [], resilient_parsing=True)
    doc = inspect.getdoc(load(name)) or ""
    parts = [" ".join(part.split()) for part in doc.split("\n\n")]
    arguments = [one.name for one in built.params if one.param_type_name == "argument"]
    return Command(
        name,
        COMMANDS[name].panel,
        COMMANDS[name].summary,
        [part for part in parts[1:] if not part.startswith(EXAMPLE)],
        [line.removeprefix(EXAMPLE) for line in doc.splitlines() if line.startswith(EXAMPLE)],
        f"apictl {name} {' '.join(built.collect_usage_pieces(context))}",
        [parameter(name, one, context, arguments) for one in built.get_params(context)],
    )


def parameter(command: str, found: Any, context: Any, arguments: list[str]) -> Parameter:
    """Return an argument or option."""
    is_help = found.name == "help"
    switch = getattr(found, "is_flag", False) or getattr(found, "count", False)
    default = found.default.value if isinstance(found.default, Enum) else found.default
    kind = found.display_type(context).strip("<>").removesuffix(" range").removeprefix("list[").rstrip("]")
    allowed = () if is_help else tuple(choices(command, found))
    return Parameter(
        # Typer keeps those of --help in a set, whose order is another in every process.
        tuple(sorted(found.opts, key=len, reverse=True)),
        tuple(found.secondary_opts),
        arguments.index(found.name) + 1 if found.name in arguments else None,
        None if switch else "str" if allowed else kind,
        allowed,
        None if switch and not default else default if isinstance(default, int | float | None) else str(default),
        found.required,
        found.multiple or found.nargs != 1,
        is_help or found.rich_help_panel == SHARED_PANEL,
        (found.help or "") + ("" if switch else limits(found.min, found.max)),
    )


def limits(least: float | None, most: float | None) -> str:
    """Return what a number may be, as the last sentence of a text."""
    if least is None:
        return "" if most is None else f" At most {most}."
    return f" At least {least}." if most is None else f" {least} to {most}."


def surface() -> Surface:
    """Return what scripts may rely on, as the code has it now."""
    root: dict[str, Facts] = {name: {} for names, _ in ROOT_OPTIONS for name in names.split(", ")}
    return {"apictl": root} | {
        command.name: {
            spelling: facts(one) for one in command.parameters for spelling in (*one.names, *one.opposites)
        }
        for command in walk()
    }  # fmt: skip


def facts(one: Parameter) -> Facts:
    """Return what a script relies on about a parameter."""
    known = {
        "position": one.position,
        "value": one.value,
        "choices": list(one.choices) or None,
        "default": one.default,
        "required": one.required or None,
        "repeats": one.repeats or None,
    }
    return {name: fact for name, fact in known.items() if fact is not None}


def broken(old: Facts | None, new: Facts | None) -> Iterator[str]:
    """Yield why a script that was written for the old facts may not work with the new ones; None: it is not there."""
    if new is None:
        yield "is gone"
    elif old is None:
        if "required" in new:
            yield "is new, and required"
    else:
        for name in ("position", "value", "default"):
            if old.get(name) != new.get(name):
                yield f"had the {name} {old.get(name)!r}, and has {new.get(name)!r}"
        # Where there are no choices, everything may be chosen.
        if "choices" in new:
            lost = set(old["choices"]) - set(new["choices"]) if "choices" in old else {"what is none of its choices"}
            if lost:
                yield f"takes no more: {', '.join(sorted(lost))}"
        if "required" in new and "required" not in old:
            yield "is required now"
        if "repeats" in old and "repeats" not in new:
            yield "may not be repeated any more"


def breaks(old: Surface, new: Surface) -> list[str]:
    """Return everything that breaks scripts which were written for the old surface."""
    gone = [f"apictl {command} is gone" for command in old if command not in new]
    return gone + [
        f"apictl {command} {spelling} {why}"
        for command in old
        if command in new
        for spelling in new[command] | old[command]
        for why in broken(old[command].get(spelling), new[command].get(spelling))
    ]


def merged(old: Surface, new: Surface) -> Surface:
    """Return the new surface, but where it breaks a script, what the script was written for."""
    result: Surface = {}
    for command in new | old:
        before, now = old.get(command), new.get(command)
        if before is None or now is None:
            result[command] = now or before or {}
            continue
        kept = {
            spelling: (before if any(broken(before.get(spelling), now.get(spelling))) else now).get(spelling)
            for spelling in now | before
        }
        result[command] = {spelling: one for spelling, one in kept.items() if one is not None}
    return result


def snapshot(content: Surface) -> str:
    """Return a surface as it is kept: a spelling a line, so that a change of one is a change of one line."""
    commands = [
        f"  {json.dumps(command)}: {{\n"
        + ",\n".join(f"    {json.dumps(spelling)}: {json.dumps(one)}" for spelling, one in spellings.items())
        + "\n  }"
        for command, spellings in content.items()
    ]
    return "{\n" + ",\n".join(commands) + "\n}\n"
