"""`docs/cli.md`: every command, for whoever looks one up."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from api.core.errors import ApictlError
from cli.help import EXIT_CODES, ROOT
from tools.surface import Command, Parameter, walk

MORE_CODES: Final = (
    "9 tells that import-users has imported the other rows. "
    "10 is no failure: migrate --check and check-models tell that something is to be done. "
    "130, 141 and 143 are Ctrl-C, a reader that went away, and SIGTERM."
)
INTRODUCTION: Final = """\
# The commands of apictl

<!-- Written by `make docs`, from the code. -->

{text}
Every command says the same of itself with `--help`, and the wheel brings manual pages (`man apictl-create-user`).
`apictl --version` tells which apictl it is. In the tables, `…` stands behind what may be given several times.
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    cells = [list(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|---" * len(cells[0]) + "|", *lines[1:]]) + "\n"


def page(failures: Sequence[type[ApictlError]]) -> str:
    """Return the reference, given everything that can fail."""
    parts = [
        INTRODUCTION.format(text=ROOT.partition("\n")[0]),
        "## Options of every command\n",
        shared_table(walk()),
        "## Exit codes\n",
        exit_table(failures),
        f"{MORE_CODES} What each failure means is in [README's table of errors](../README.md#errors).\n",
    ]
    panel = ""
    for command in walk():
        if command.panel != panel:
            panel = command.panel
            parts.append(f"## {panel}\n")
        parts += section(command)
    return "\n".join(parts)


def section(command: Command) -> Iterator[str]:
    """Yield the parts of a command's section."""
    yield f"### {command.name}\n"
    for paragraph in (command.summary, *command.paragraphs):
        yield f"{paragraph}\n"
    yield f"Usage: `{command.usage}`\n"
    yield "```console\n" + "".join(f"$ {example}\n" for example in command.examples) + "```\n"
    for word, own in (
        ("argument", [one for one in command.parameters if one.position]),
        ("option", [one for one in command.parameters if not one.position and not one.shared]),
    ):
        if own:
            yield table([word, "value", "default", "meaning"], map(row, own))
    shared = [f"`{one.names[0]}`" for one in command.parameters if one.shared]
    yield f"And [{', '.join(shared)}](#options-of-every-command).\n"


def row(one: Parameter) -> list[str]:
    """Return a parameter's row."""
    default = "required" if one.required else "-" if one.default in {None, ""} else f"`{one.default}`"
    value = f"`{value_of(one)}`" if one.value else "-"
    return [spellings(one, "`{}`"), value, default, one.text]


def spellings(one: Parameter, form: str) -> str:
    """Return a parameter's names, each in this form; those that turn it off stand behind a stroke."""
    return " / ".join(", ".join(map(form.format, names)) for names in (one.names, one.opposites) if names)


def value_of(one: Parameter) -> str:
    """Return what may be given, as `--help` has it: its kind, or its choices."""
    return ("|".join(one.choices) or f"<{one.value}>") + ("…" if one.repeats else "")


def shared_table(commands: Sequence[Command]) -> str:
    """Return the options that many commands have, and which those are."""
    who: dict[Parameter, list[str]] = {}
    for command in commands:
        for one in command.parameters:
            if one.shared:
                who.setdefault(one, []).append(command.name)
    everybody = [command.name for command in commands]
    return table(
        ["option", "value", "meaning", "commands"],
        [[*row(one)[:2], one.text, those(names, everybody)] for one, names in who.items()],
    )


def those(names: list[str], everybody: list[str]) -> str:
    """Return which commands these are, in the shorter way."""
    others = [name for name in everybody if name not in names]
    if not others:
        return "all"
    return ", ".join(names) if len(names) <= len(others) else f"all but {', '.join(others)}"


def exit_table(failures: Sequence[type[ApictlError]]) -> str:
    """Return the exit codes, and what ends with each."""
    return table(
        ["exit", "meaning", "failures"],
        [
            [str(code), text, ", ".join(f"`{one.code}`" for one in failures if one.kind.exit_code == code) or "-"]
            for code, text in EXIT_CODES.items()
        ],
    )
