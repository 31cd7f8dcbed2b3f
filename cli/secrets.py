"""Where a password comes from: exactly one source, and never the command line."""

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.signals import at_a_prompt

if TYPE_CHECKING:
    from cli.call import Call

# As much as HTTP takes for a body; the policy judges the rest.
MAX_BYTES = 64 * 1024
GENERATED_WORDS = 5

PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.", show_default=False)
]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", help="Read the password from this file, which others may not read."),
]
GeneratePassword = Annotated[
    bool, typer.Option("--generate-password", help="Make a password, and show it once.", show_default=False)
]
NoPassword = Annotated[
    bool, typer.Option("--no-password", help="Set none: the user cannot log in yet.", show_default=False)
]


def generate() -> str:
    """Return a password of 130 random bits, in groups that can be read out."""
    import secrets

    # No look-alikes (0 O, 1 I L), so that it survives being written down.
    alphabet = "23456789abcdefghjkmnpqrstuvwxyz"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(6)) for _ in range(GENERATED_WORDS - 1)) + (
        "-" + "".join(secrets.choice(alphabet) for _ in range(3))
    )


def one_source(*, stdin: bool, file: Path | None, generated: bool, none: bool = False) -> None:
    """Go on unless two sources are named.

    Raises:
        BadRequest: They are.
    """
    from api.core.errors import BadRequest

    sources = [
        name
        for name, used in (
            ("--password-stdin", stdin),
            ("--password-file", file is not None),
            ("--generate-password", generated),
            ("--no-password", none),
            ("APICTL_PASSWORD", "APICTL_PASSWORD" in os.environ),
        )
        if used
    ]
    if len(sources) > 1:
        raise BadRequest(f"The password has two sources: {' and '.join(sources)}", hint="name one")


def read_password(call: "Call", *, stdin: bool, file: Path | None, generated: bool, none: bool = False) -> str | None:
    """Return the password from the one source that was named, or from a prompt; None for `--no-password`.

    Raises:
        BadRequest: Two sources were named, or the source cannot be read.
        MissingInput: No source was named, and there is no terminal to ask on.
    """
    from api.core.errors import BadRequest, MissingInput

    one_source(stdin=stdin, file=file, generated=generated, none=none)
    if none:
        return None
    if generated:
        call.require_shown("generated_password")
        if call.server is not None and call.server.key is not None:
            raise BadRequest(
                "--generate-password makes another password each time, which is another request",
                hint="with --idempotency-key, name the password: --password-stdin or --password-file",
            )
        return generate()
    if stdin:
        with at_a_prompt():
            return decoded(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    if file is not None:
        return decoded(read_private(file), str(file))
    if (environment := os.environ.get("APICTL_PASSWORD")) is not None:
        return environment
    if not call.interactive:
        raise MissingInput(
            "A password is needed, and there is no terminal to ask on",
            hint="use --password-stdin, --password-file, --generate-password or APICTL_PASSWORD",
        )
    return ask_twice(call.settings.password_min_length)


def ask_twice(min_length: int) -> str:
    """Return a password typed twice at the terminal, unseen; whoever mistypes it may begin again, twice.

    Raises:
        Declined: The two differ each time, or none was typed.
    """
    import getpass

    from api.core.errors import Declined

    try:
        with at_a_prompt():
            for _ in range(3):
                first = getpass.getpass(f"Password ({min_length} characters or more): ")
                if first == getpass.getpass("The same again: "):
                    return first
                print("The two differ.", file=sys.stderr)
    except EOFError:
        raise Declined("Nothing was changed: no password was typed") from None
    raise Declined("Nothing was changed: the two passwords differ")


def read_private(file: Path) -> bytes:
    """Return a secret file's content.

    Raises:
        BadRequest: It cannot be read, or everybody can read it.
    """
    from api.core.errors import BadRequest

    try:
        # A pipe, as of `<(pass show apictl)`, may keep us waiting.
        with at_a_prompt(), file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            # What is a device, as /dev/null, is everybody's by its nature.
            if mode & 0o004 and not stat.S_ISCHR(mode):
                raise BadRequest(f"Everybody can read {file}", hint=f"chmod 600 '{file}'")
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"{file} cannot be read", cause=error.strerror) from None


def decoded(raw: bytes, source: str, *, what: str = "password") -> str:
    """Return a secret as text, without the line's end that editors and `echo` add.

    Raises:
        BadRequest: It is empty, too long, or no UTF-8.
    """
    from api.core.errors import BadRequest

    if len(raw) > MAX_BYTES:
        raise BadRequest(f"The {what} from {source} is longer than {MAX_BYTES} bytes")
    try:
        text = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise BadRequest(f"The {what} from {source} is not UTF-8") from None
    if not text:
        raise BadRequest(f"The {what} from {source} is empty")
    return text
