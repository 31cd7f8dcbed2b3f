"""The manual pages, `docs/man/*.1`: one of `apictl`, and one of each command, in the macros of man(7)."""

from collections.abc import Iterable, Iterator
from typing import Final

from cli.help import EXAMPLE, EXIT_CODES, ROOT, ROOT_OPTIONS
from tools.reference import MORE_CODES, spellings, value_of
from tools.surface import Command, Parameter, walk

# A plain hyphen or quote would be set as a typographic one, and could not be copied into a shell.
ESCAPES: Final = str.maketrans(
    {"\\": "\\e", "-": "\\-", "'": "\\(aq", '"': "\\(dq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
)


def pages(settings: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Return every page by the name of its file, given the settings: their variables, defaults and meanings."""
    return {"apictl.1": "\n".join(root_page(settings)) + "\n"} | {
        f"apictl-{command.name}.1": "\n".join(command_page(command)) + "\n" for command in walk()
    }


def root_page(settings: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Yield the lines of the page of `apictl`."""
    summary, example = ROOT.split("\n\n")
    yield from head("apictl", summary)
    yield from (bold("apictl") + " [OPTIONS] COMMAND [ARGS]...", ".SH DESCRIPTION", text(summary))
    yield from paragraph("Each command has a page of its own: man apictl-create-user.")
    yield from (".SH OPTIONS", *definitions((bold(names), meaning) for names, meaning in ROOT_OPTIONS))
    yield ".SH COMMANDS"
    panel = ""
    for command in walk():
        if command.panel != panel:
            panel = command.panel
            yield f".SS {text(panel)}"
        yield from definitions([(reference(command.name), command.summary)])
    yield from (".SH EXAMPLES", *examples([example.removeprefix(EXAMPLE)]))
    yield from (".SH EXIT STATUS", *definitions((bold(str(code)), meaning) for code, meaning in EXIT_CODES.items()))
    yield from paragraph(MORE_CODES)
    yield ".SH ENVIRONMENT"
    for name, default, meaning in settings:
        yield from definitions([(bold(name), meaning + (f" Default: {default}." if default else ""))])


def command_page(command: Command) -> Iterator[str]:
    """Yield the lines of a command's page."""
    yield from head(f"apictl-{command.name}", command.summary)
    start = f"apictl {command.name}"
    yield bold(start) + text(command.usage.removeprefix(start))
    yield from (".SH DESCRIPTION", text(command.summary))
    for one in command.paragraphs:
        yield from paragraph(one)
    for heading, parameters in (
        ("ARGUMENTS", [one for one in command.parameters if one.position]),
        ("OPTIONS", [one for one in command.parameters if not one.position and not one.shared]),
        ("OPTIONS OF EVERY COMMAND", [one for one in command.parameters if one.shared]),
    ):
        if parameters:
            yield f".SH {heading}"
            yield from definitions((term(one), meaning(one)) for one in parameters)
    yield from (".SH EXAMPLES", *examples(command.examples))
    yield from (".SH EXIT STATUS", f"0 if it is done; the others are in {reference()}.", ".SH SEE ALSO")
    others = [one.name for one in walk() if one.panel == command.panel and one.name != command.name]
    yield ",\n".join([reference(), *map(reference, others)])


def head(name: str, summary: str) -> Iterator[str]:
    """Yield the lines that a page begins with, up to its synopsis."""
    yield '.\\" Written by `make docs`, from the code.'
    yield f'.TH {text(name.upper())} 1 "" apictl "Manual of apictl"'
    # What `whatis` shows.
    yield from (".SH NAME", f"{text(name)} \\- {text(summary[0].lower() + summary[1:].rstrip('.'))}", ".SH SYNOPSIS")


def text(words: str) -> str:
    """Return a text, of one line, that is set as it is written."""
    # A line that begins with a full stop would be a macro; one with a quote is escaped anyway.
    return ("\\&" if words.startswith(".") else "") + words.translate(ESCAPES)


def bold(words: str) -> str:
    """Return a text in bold."""
    return f"\\fB{text(words)}\\fR"


def reference(command: str = "") -> str:
    """Return the name of a page, as pages refer to each other; not to be divided at the end of a line."""
    return "\\%" + bold(f"apictl-{command}" if command else "apictl") + "(1)"


def paragraph(words: str) -> Iterator[str]:
    """Yield the lines of a paragraph that is not its section's first."""
    yield from (".PP", text(words))


def definitions(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of terms, which are set already, and their meanings."""
    for term, meaning in rows:
        yield from (".TP", term, text(meaning))


def term(one: Parameter) -> str:
    """Return a parameter's names, and what may be given."""
    return spellings(one, "\\fB{}\\fR").replace("-", "\\-") + (f" \\fI{text(value_of(one))}\\fR" if one.value else "")


def meaning(one: Parameter) -> str:
    """Return a parameter's text, with what happens without it."""
    if one.required:
        return f"{one.text} Required."
    return one.text + ("" if one.default in {None, ""} else f" Default: {one.default}.")


def examples(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of examples, which are not filled."""
    yield from (".EX", *(text(f"$ {line}") for line in lines), ".EE")
