"""The entry point `apictl`: what needs nothing imported is answered before anything is."""

import gc
import os
import sys

from api import __version__

# In place of one that the caller has closed. What is written to stdout then fails, as on a full disk: a key that is
# shown once must not be taken for shown.
STREAMS = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run() -> "NoReturn":
    """Run `apictl` as a process: print, flush, exit."""
    # Else the next file that is opened would have the number of a stream that the caller has closed.
    for number, (name, mode, flags) in enumerate(STREAMS):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, flags)
            os.dup2(opened, number)
            # Where it is the same number, that is nothing; and children have it too.
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    if sys.argv[1:] in (["--version"], ["-V"]):
        leave(0, f"apictl {__version__}\n")
    # Else a tenth of a command's time goes into looking for garbage among modules, which are none.
    gc.set_threshold(1_000_000)
    from cli.main import run

    leave(run())


def leave(code: int, text: str = "") -> "NoReturn":
    """End the process, in which all is done and closed: to take it apart would be a third of a command's time."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        from cli.errors import unwritten

        code = unwritten(error)
    os._exit(code)
