"""Which lines and branches of ours a run of the tests reaches; started before anything of ours is imported.

slipcover puts its probes into the code, where coverage.py on Python 3.11 traces every line: with that, the suite took
half as long again. Traps of slipcover 1.1: its own plugin for pytest and its own fork know only what was started
below `python -m slipcover`, so each process of a run writes down here what it has seen; what it has seen already is not
seen again after a fork, so a child has its parent's lines too; and to take its probes out again, which it does after
some thousand calls, it walks through all modules, in whatever thread happens to be running: so it never does.
What a parent had seen before it forked for the first time, it writes then, and no child of it writes that again: two
thousand of them would take ten seconds for it.
"""

import atexit
import json
import os
import secrets
from pathlib import Path
from typing import Final, NoReturn

# Names the folder that the processes of this run write into; without it nothing is measured.
VARIABLE: Final = "MEASURE_INTO"
NEVER: Final = -1
# In a process's PYTHONPATH, this has it measured from its start, although it has nothing to do with the tests.
STARTUP: Final = Path(__file__).parent / "startup"
ROOT: Final = Path(__file__).parent.parent.parent


def start() -> None:
    """Measure this process and those that it forks, if this run is to be measured."""
    if VARIABLE not in os.environ:
        return
    from slipcover import FileMatcher, ImportManager, Slipcover  # noqa: PLC0415 - it costs something, and only here

    folder = Path(os.environ[VARIABLE])
    cover = Slipcover(branch=True, d_miss_threshold=NEVER)
    ImportManager(cover, FileMatcher(sources=[ROOT / "api", ROOT / "cli"])).__enter__()
    leave = os._exit
    written: dict[str, set[object]] = {}

    def save() -> None:
        found = {file: set(places) - written.get(file, set()) for file, places in list(cover.newly_seen.items())}
        seen = {file: list(places) for file, places in found.items() if places}
        path = folder / secrets.token_hex(8)
        path.write_text(json.dumps(seen), encoding="utf-8")
        # Only now: a process may be killed while it writes.
        path.rename(path.with_suffix(".json"))

    def save_and_leave(status: int) -> NoReturn:
        save()
        leave(status)

    def save_once() -> None:
        if not written:
            save()
            written.update({file: set(places) for file, places in list(cover.newly_seen.items())})

    atexit.register(save)
    os.register_at_fork(before=save_once)
    # So children end that were forked.
    os._exit = save_and_leave
