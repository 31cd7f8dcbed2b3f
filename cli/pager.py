"""The pager: what is longer than the screen is read there, as in git and man."""

import os
import shlex
import signal
import subprocess

from cli import TERM

# Leave what fits on the screen, show colours, keep the text there at the end.
LESS = "FRX"


def page_through(text: str) -> bool:
    """Show a text in the pager and wait until it is closed; tell whether there is one."""
    # It may be closed before it has read everything, and what Ctrl-C does in it is its own affair.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGINT, lambda *_: None)
    # Without our own TERM=dumb, which only keeps colours out.
    environment = {"LESS": LESS} | os.environ | {"TERM": TERM}
    try:
        command = shlex.split(os.environ.get("PAGER", "less"))
        if not command or TERM == "dumb":
            return False
        subprocess.run(command, input=text, text=True, errors="backslashreplace", check=False, env=environment)  # noqa: S603 - the person's own choice
    except (OSError, ValueError):
        return False
    return True
