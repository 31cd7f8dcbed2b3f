"""What the TAB key offers: names of commands and options, values, and what is in the database.

Typer, which takes most of the time, is imported only behind the name of a command.
"""

import inspect
import os
import shlex
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, get_args

from cli.commands import COMMANDS

if TYPE_CHECKING:
    from api.suggestions.service import Kind

Offer = tuple[str, str]
"""What may stand there, and a word about it."""

HELP: Final = ("--help", "Print this help.")
SECONDS: Final = 0.5
# By the name of a parameter; what is new, or a secret, is not there to be offered.
KINDS: "Final[dict[tuple[str, str], Kind]]" = {
    ("*", "user"): "user",
    ("*", "as_user"): "user",
    ("*", "actor"): "user",
    ("bootstrap", "key_owner"): "user",
    ("*", "role"): "role",
    ("*", "roles"): "role",
    ("show-role", "name"): "role",
    ("update-role", "name"): "role",
    ("delete-role", "name"): "role",
    ("grant-role", "name"): "role",
    ("revoke-role", "name"): "role",
    ("*", "token"): "session",
    ("*", "keep"): "session",
    ("*", "key"): "api-key",
    ("retire-key", "key"): "signing-key",
}


def complete(shell: str, typed: list[str]) -> str:
    """Return what a shell's script reads: an offer a line, nothing if there is none or something failed.

    Args:
        shell: Whose script asks.
        typed: The words after `apictl`, the last one as far as it was typed; of bash, the line and where it breaks
            words.
    """
    breaks = ""
    if shell == "bash":
        line, breaks = typed
        typed = words_of(line)
    current = typed[-1] if typed else ""
    offers = [(value, about) for value, about in offered(typed) if value.startswith(current)]
    # zsh and fish replace the whole word, bash what follows a : or =, and an @ with what follows.
    ends = [current.rfind(character) + (character != "@") for character in "@:=" if character in breaks]
    kept = max([0, *ends])
    return "".join(line_of(shell, value[kept:], about) for value, about in offers)


def line_of(shell: str, value: str, about: str) -> str:
    """Return an offer as this shell's script reads it."""
    about = about.partition("\n")[0]
    if shell == "bash" or not about:
        return f"{value}\n"
    if shell == "zsh":
        return value.replace(":", "\\:") + f":{about}\n"
    return f"{value}\t{about}\n"


def words_of(line: str) -> list[str]:
    """Return the words after `apictl` in a line that may not be complete."""
    try:
        found = shlex.split(line)
    except ValueError:
        found = line.split()
    return found[1:] + ([""] if line[-1:].isspace() else [])


def offered(typed: list[str]) -> list[Offer]:
    """Return what may stand where the last of these words is."""
    *before, current = typed or [""]
    if not before:
        if current.startswith("-"):
            return [HELP, ("--version", "Print the version.")]
        return [(name, entry.summary) for name, entry in COMMANDS.items()]
    if before[0] not in COMMANDS:
        return []
    return of_command(before[0], before[1:], current)


def of_command(name: str, before: list[str], current: str) -> list[Offer]:
    """Return what may stand there in a command: options, or the values of one or of an argument."""
    from cli.app import build

    parameters = build(name).params
    options = {text: one for one in parameters if one.param_type_name == "option" for text in one.opts}
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    # What is offered from the database is in the one that the command would work on.
    for word, following in pairwise([*before, ""]):
        option, equals, value = word.partition("=")
        if option == "--profile":
            os.environ["APICTL_PROFILE"] = value if equals else following
    # What a database here has is not what a server has.
    here = not any(word.partition("=")[0] == "--server" for word in before)
    text, equals, _ = current.partition("=")
    if text.startswith("--") and equals and text in options:
        return [
            (f"{text}={value}", about)
            for value, about in values(name, options[text], current[len(text) + 1 :], here=here)
        ]
    if before and before[-1] in options and takes_value(options[before[-1]]):
        return values(name, options[before[-1]], current, here=here)
    if current.startswith("-"):
        taken = {one.name for one in map(options.get, before) if one is not None and not one.multiple}
        found = [
            (text, one.help or "") for text, one in options.items() if text.startswith("--") and one.name not in taken
        ]
        return [*found, HELP]
    given = [
        word
        for last, word in zip(["", *before], before, strict=False)
        if not word.startswith("-") and (last not in options or not takes_value(options[last]))
    ]
    return values(name, arguments[len(given)], current, here=here) if len(given) < len(arguments) else []


def takes_value(option: Any) -> bool:
    """Tell whether a value follows an option."""
    return not (option.is_flag or option.count)


def values(name: str, parameter: Any, start: str, *, here: bool) -> list[Offer]:
    """Return the values of a parameter that begin so."""
    if parameter.name in {"scopes", "key_scopes", "can"}:
        from api.core.actor import SCOPE_TEXTS

        return [*SCOPE_TEXTS.items()]
    if parameter.name == "profile":
        from api.env_file import profiles

        return [(profile, "") for profile in profiles()]
    if found := choices(name, parameter):
        return [(choice, "") for choice in found]
    kind = KINDS.get((name, parameter.name), KINDS.get(("*", parameter.name)))
    return suggested(kind, start) if kind and here else []


def choices(name: str, parameter: Any) -> list[str]:
    """Return what a parameter's value is chosen from; nothing if it is free."""
    from cli.commands import load

    annotation = inspect.signature(load(name)).parameters[parameter.name].annotation
    kinds = [one for outer in get_args(annotation) or (annotation,) for one in get_args(outer) or (outer,)]
    return [one.value for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum) for one in kind]


def suggested(kind: "Kind", start: str) -> list[Offer]:
    """Return what the database has of a kind."""
    import asyncio
    import signal

    # Whatever takes longer, a name server too, is too late.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    # As in cli.running.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "true"
    from api.config import Settings
    from api.core.actor import Actor
    from api.suggestions.service import SuggestionService

    settings = Settings.load()
    if settings.server is not None:
        # To ask it at the press of a key would take too long.
        return []
    return asyncio.run(SuggestionService(settings, Actor.operator("TAB")).suggest(kind, start))
