"""`make faults`: faults, one after another, and a table of what held."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from api.core.errors import ApictlError
from faults import report
from faults.database import disk_full, flaky, hung, killed, read_only, sent_again, silent_commits
from faults.report import Seen
from faults.server import exhausted, restarted, rolled, server_killed, worker_killed
from faults.world import World, world

# A scenario is a coroutine function that takes the world and returns what it has seen; it ends what it began.
SCENARIOS = (
    *(hung, flaky, silent_commits, sent_again, exhausted, read_only),
    *(restarted, rolled, worker_killed, server_killed, killed, disk_full),
)


async def run(place: World, names: list[str]) -> tuple[list[Seen], str]:
    """Carry out the scenarios, and return what was seen, and which PostgreSQL it was."""
    seen: list[Seen] = []
    for scenario in SCENARIOS:
        if names and scenario.__name__ not in names:
            continue
        began = time.monotonic()
        found = await scenario(place)
        print("\n".join(report.table(found)[2:]), f"  ({time.monotonic() - began:.1f} s)", flush=True)
        seen += found
    async with place.database() as database:
        return seen, "PostgreSQL " + str(await database.fetchval("SHOW server_version")).partition(" ")[0]


def main() -> int:
    """Print the table, and write docs/reliability.md if it was a whole run."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="each once and briefly: nothing is written")
    names = [one.__name__ for one in SCENARIOS]
    parser.add_argument("only", nargs="*", help=f"of: {', '.join(names)}")
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    try:
        with tempfile.TemporaryDirectory(prefix="faults-") as name:
            # PostgreSQL, which does not run as root, has to get there.
            Path(name).chmod(0o755)
            with world(Path(name), short=options.short) as place:
                seen, postgres = asyncio.run(run(place, options.only))
    except ApictlError as error:
        print(f"error: {error.detail}\ncause: {error.cause or '-'}\nhint: {error.hint or '-'}", file=sys.stderr)
        return error.kind.exit_code
    if not options.short and not options.only:
        report.write(seen, postgres)
        print("\nWritten: docs/reliability.md")
    return int(any(one.held is False for one in seen))


if __name__ == "__main__":
    sys.exit(main())
