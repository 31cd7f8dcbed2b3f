"""`make clean-data`: destroys the embedded database and the secret key in `.apictl`, after asking."""

import shutil
import sys
from pathlib import Path
from typing import Final

from api.core.errors import ApictlError
from api.postgres import locks
from api.postgres.layout import Layout, digest, locate, state_folder

HOME: Final = Path(".apictl")


def is_running(layout: Layout) -> bool:
    """Tell whether a server works on these data."""
    for path in (layout.lock("keeper"), layout.cluster_lock):
        if path.exists():
            with locks.opened(path) as lock:
                if not locks.take(lock):
                    return True
    return False


def clean() -> str | None:
    """Ask, and destroy; return why not, if not."""
    if not HOME.is_dir():
        return "there is no .apictl here"
    layout = locate(HOME)
    if layout.place not in {layout.home, state_folder() / digest(layout.home)}:
        # This folder was copied or moved here; nothing tells which, and of a copy the original needs them.
        return f"its data are in {layout.place}, and may be those of another folder as well: remove them by hand"
    if is_running(layout):
        return "its PostgreSQL is running: stop apictl first"
    if not sys.stdin.isatty():
        return "this asks first, and there is no terminal to ask on"
    print(f"This destroys the database in {layout.data} and the secret key in {layout.home}, for good.")
    if input("Type destroy to go on: ") != "destroy":
        return "nothing was changed"
    if layout.place != layout.home:
        shutil.rmtree(layout.place)
    shutil.rmtree(layout.home)
    return None


if __name__ == "__main__":
    try:
        refusal = clean()
    except ApictlError as error:
        refusal = error.detail
    except (EOFError, KeyboardInterrupt):
        refusal = "nothing was changed"
    if refusal is not None:
        sys.exit(f"error: {refusal}")
