"""One command line: everything leaves here as output and an exit code."""

import io
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cli.errors import show, unwritten, wants_json
from cli.signals import leave_at_once

if TYPE_CHECKING:
    from api.core.errors import ApictlError
    from cli.call import Shown

# What a command without --server works on, where that is no database.
NO_SERVER: Final = {
    "login": "apictl login https://… names it",
    "logout": "apictl logout ends the login that there is",
    "whoami": "it asks the server that APICTL_SERVER names, or the login's",
    "show-config": "it shows the settings of this machine",
    "completion": "it prints a script for this machine's shell",
}
# Which secret an option of this name would have, and where it belongs.
NO_SECRETS: Final = {
    "--password": "--password-stdin, --password-file or APICTL_PASSWORD",
    "--token": "APICTL_TOKEN or APICTL_TOKEN_FILE",
    "--api-key": "APICTL_TOKEN or APICTL_TOKEN_FILE",
    "--secret-key": "APICTL_SECRET_KEY",
}


def run() -> int:
    """Run the command line of this process, and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding cannot show is escaped, and no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # A reader that closes early (`| head -1`) ends us as it ends every other program: quietly, 141 in the shell.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    leave_at_once()
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        # Also while our modules are being imported.
        code = 130
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        # Of a text that no command printed: a help, or a failure.
        code = unwritten(error)
    return code


def without_colors(arguments: list[str]) -> None:
    """Make sure of no escape sequence where none is wanted, whatever the environment would force."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ or "--no-color" in arguments:
        for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "CLICOLOR_FORCE"):
            os.environ.pop(name, None)
        # NO_COLOR alone would keep the bold.
        os.environ["TERM"] = "dumb"


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit code; nothing but the terminal's own errors is raised."""
    as_json = wants_json(arguments)
    without_colors(arguments)
    if arguments[:1] == ["--complete"]:
        from cli.offers import complete

        # A key press says nothing, whatever is wrong: the command will.
        with suppress(Exception):
            _, shell, *typed = arguments
            print(complete(shell, typed), end="")
        return 0
    if arguments in ([], ["--help"], ["-h"]):
        from cli.help import root_help

        print(root_help())
        # As `git` does: the help is an answer, but a script that forgot its command must not go on.
        return 0 if arguments else 2
    # Typer reads the environment while it is imported.
    import typer

    from cli.app import make_app
    from cli.commands import COMMANDS

    try:
        result = make_app()(arguments, prog_name="apictl", standalone_mode=False)
        # By now what was asked for is done and committed.
        return result if isinstance(result, int) else printed(result)
    except typer.Abort:
        print("\nerror: interrupted", file=sys.stderr)
        return 130
    except typer.TyperException as usage:
        from api.core.errors import BadRequest

        words = [word for word in arguments if word in COMMANDS][:1]
        hint = " ".join(["see: apictl", *words, "--help"])
        message = usage.format_message().rstrip(".").replace("Value error, ", "")
        if words and arguments[0] != words[0]:
            hint = f"options come after the command: apictl {words[0]} …"
        elif words and message.startswith("No such option: --server"):
            hint = NO_SERVER.get(words[0], f"apictl {words[0]} works on a database only")
        elif secret := NO_SECRETS.get(message.removeprefix("No such option: ").partition(" ")[0]):
            # Without Typer's suggestion of others.
            message = message.partition(" (")[0]
            hint = f"no secret is an argument, which others see: {secret}"
        if message.startswith("Got unexpected extra argument"):
            # What is too much may be a password or a token.
            message = "There are more arguments than the command takes"
        show(BadRequest(message, hint=hint), as_json=as_json)
        return 2
    except Exception as error:
        # Where help was asked for, no command has run: it is the help that could not be printed, and `run` says so.
        if "--debug" in arguments or (isinstance(error, OSError) and {"--help", "-h"} & {*arguments}):
            raise
        failure = understood(error)
        show(failure, as_json=as_json)
        return failure.kind.exit_code


def printed(shown: "Shown | None") -> int:
    """Print what a command has left, and return the exit code."""
    if shown is not None:
        from cli.printing import show as show_result

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            show_result(shown.result, shown.style)
        except OSError as error:
            return unwritten(error)
        return shown.result.exit_code
    return 0


def understood(error: Exception) -> "ApictlError":
    """Return one of our failures as it is, and anything else as a bug: what it is, and where it happened."""
    import traceback

    from api.core.errors import ApictlError, InternalError

    if isinstance(error, ApictlError):
        return error
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}: {error.msg}"
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "somewhere"
    # Its own words stay out: they can hold whatever was in hand, a password too.
    return InternalError(
        "apictl failed", cause=f"{type(error).__name__} at {where}", hint="--debug shows the traceback"
    )
