"""The entry point `apictl`: what needs nothing imported is answered before anything is."""

import gc
import os
import sys

from api import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run() -> "NoReturn":
    """Run `apictl` as a process: print, flush, exit."""
    # A stream that the caller has closed is written to in vain, and no reason to fail.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
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
