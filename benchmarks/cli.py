"""`make bench-cli`: how long a command takes from nothing to its end, as a ratio to a Python that does nothing."""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from api.postgres.embedded import EmbeddedPostgres
from benchmarks.contenders import ADMIN, Place, done, ours_settings, seeded
from benchmarks.servers import apictl, environment, free_port, running


class Budget(NamedTuple):
    """A command, and how many times as long as `python -c pass` it may take."""

    text: str
    line: list[str]
    most: float
    more: dict[str, str]
    code: int = 0


READY_SECONDS: Final = 2
PORT: Final = free_port()
NOTHING: Final = [sys.executable, "-c", "pass"]
BUDGETS: Final = (
    Budget("--version", apictl("--version"), 1.5, {}),
    Budget("--help", apictl("--help"), 7, {}),
    Budget("TAB on the name of a command", apictl("--complete", "bash", "apictl list-", "@:="), 7, {}),
    Budget("TAB on an e-mail address", apictl("--complete", "bash", "apictl show-user ad", "@:="), 20, {}),
    Budget("a usage error", apictl("show-user"), 15, {}, code=2),
    Budget("a command that asks a server", apictl("show-user", ADMIN, "--server", f"http://127.0.0.1:{PORT}"), 25, {}),
    Budget("a command that asks the database", apictl("show-user", ADMIN), 45, {}),
)


def seconds(line: list[str], code: int, variables: dict[str, str], cwd: Path) -> float:
    """Return how long a command takes, whose exit code has to be this one."""
    began = time.perf_counter()
    ended = subprocess.run(line, cwd=cwd, env=environment(**variables), capture_output=True, check=False)  # noqa: S603
    lasted = time.perf_counter() - began
    if ended.returncode != code:
        raise SystemExit(f"{' '.join(line)} ended with {ended.returncode}: {ended.stderr.decode()}")
    return lasted


def until_ready(place: Place) -> float:
    """Return how many seconds a server takes from nothing until it can serve."""
    port = free_port()
    line = apictl("serve", "--port", str(port))
    began = time.perf_counter()
    with running(line, port, ready="/health/ready", log=place.log("serve"), **ours_settings(place)):
        return time.perf_counter() - began


def main() -> int:
    """Measure, print the table, and tell by the exit code whether every budget was kept."""
    parser = argparse.ArgumentParser(prog="make bench-cli", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with EmbeddedPostgres(folder / "pg", binaries=None).acquire(create=True) as database:
            place = Place(database.url, folder, users=1000)
            asyncio.run(seeded(place, ours_settings(place)))
            taken: dict[str, list[float]] = {budget.text: [] for budget in BUDGETS}
            # Compiled once, as after an installation, wherever the source may be written to.
            compiled = {"PYTHONPYCACHEPREFIX": str(folder / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
            ours = ours_settings(place)
            key = apictl("create-api-key", ADMIN, "--name", "bench", "--scope", "users:read", "--fields", "key")
            token = {"APICTL_TOKEN": done(key, place, **ours).strip()}
            line = apictl("serve", "--port", str(PORT))
            with running(line, PORT, ready="/health/ready", log=place.log("asked"), **ours):
                for number in range(rounds + 1):
                    # Each beside a Python that does nothing, at the same moment's speed of the machine.
                    for budget in BUDGETS:
                        nothing = seconds(NOTHING, 0, compiled, folder)
                        lasted = seconds(budget.line, budget.code, ours | token | compiled | budget.more, folder)
                        if number:
                            taken[budget.text].append(lasted / nothing)
            serving = [until_ready(place) for _ in range(min(rounds, 5))]
    print(f"Times `python -c pass`, {rounds} rounds, {os.cpu_count()} cores\n")
    print("| | median | from-to | budget |\n|---|---|---|---|")
    kept = True
    for budget in BUDGETS:
        ratios = taken[budget.text]
        median = statistics.median(ratios)
        kept = kept and median <= budget.most
        print(f"| {budget.text} | {median:.1f} | {min(ratios):.1f}-{max(ratios):.1f} | {budget.most:g} |")
    median = statistics.median(serving)
    kept = kept and median <= READY_SECONDS
    spread = f"{min(serving):.1f}-{max(serving):.1f}"
    print(f"| serve, until it is ready, in seconds | {median:.1f} | {spread} | {READY_SECONDS:g} |")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
