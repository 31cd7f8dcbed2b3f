"""`make bench`: everybody under the same load in turn, and a table of ratios to the machine's own limit."""

import argparse
import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from api.core.errors import ApictlError
from api.postgres.embedded import EmbeddedPostgres
from benchmarks import report
from benchmarks.bounds import Bound, bounds
from benchmarks.bounds import lines as lines_of_bounds
from benchmarks.bulk import bulk
from benchmarks.contenders import Contender, Place, django, fastapi_users, limit, limit_tokens, ours, seeded
from benchmarks.contenders import ours_settings as settings_of_ours
from benchmarks.load import CONNECTIONS, CannotMeasure, Load, load, wrk
from benchmarks.servers import PYTHON, ROOT, environment

# So few that hardly one has to wait for a thread: more would only queue.
LOGINS_AT_ONCE: Final = 4
HASHES: Final = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from api.core.hashes import CONTEXT, DUMMY_HASH
seconds, threads = float(sys.argv[1]), int(sys.argv[2])
deadline = time.monotonic() + seconds
def verify(_):
    done = 0
    while time.monotonic() < deadline:
        CONTEXT.verify("wrong", DUMMY_HASH)
        done += 1
    return done
with ThreadPoolExecutor(threads) as pool:
    print(sum(pool.map(verify, range(threads))) / seconds)
"""


def hash_rate(seconds: float) -> float:
    """Return how many passwords this machine can check in a second, with nothing around it."""
    line = [sys.executable, "-c", HASHES, str(seconds), str(os.cpu_count() or 1)]
    ended = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)  # noqa: S603
    return float(ended.stdout)


async def vacuumed(url: str) -> None:
    """Have PostgreSQL clean up a database, and look at how much there is of everything."""
    connection = await asyncpg.connect(url)
    await connection.execute("VACUUM ANALYZE", timeout=600)
    await connection.close()


async def make_database(url: str, name: str) -> str:
    """Make a database on the server that the URL names, and return its own."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@contextmanager
def contenders(url: str, folder: Path, users: int) -> Iterator[list[Contender]]:
    """Have everybody run, each with a database of its own, and the same users; the limit first."""

    def place(name: str) -> Place:
        return Place(asyncio.run(make_database(url, name)), folder, users)

    with ExitStack() as stack:

        def enter(one: AbstractContextManager[Contender]) -> Contender:
            found = stack.enter_context(one)
            print(f"  {found.name}", flush=True)
            return found

        print(f"Starting, each with {users:,} users:")
        raw, own = place("limit_l1"), place("ours")
        for one in (raw, own):
            asyncio.run(seeded(one, settings_of_ours(one)))
        secret = secrets.token_hex(32)
        tokens = asyncio.run(limit_tokens(raw, secret))
        yield [
            enter(limit(raw, *tokens, secret)),
            enter(ours(own)),
            enter(fastapi_users(place("fastapi_users"))),
            enter(django(place("django"))),
        ]


def measure(everybody: list[Contender], folder: Path, *, rounds: int, seconds: float) -> report.Results:
    """Load them in turn, round by round: what disturbs the machine for a while disturbs all of them."""
    results: report.Results = {}
    for number in range(rounds):
        for one in everybody:
            one.requests.update(one.renew())
        for workload in report.WORKLOADS:
            for one in everybody:
                if workload not in one.requests:
                    continue
                found = loaded(one, workload, folder, seconds)
                results.setdefault((workload, one.name), []).append(found)
            if workload == "W3":
                rate = hash_rate(seconds)
                results.setdefault((workload, report.HASHES), []).append(Load(rate, 0, 0))
            print(f"\rround {number + 1} of {rounds}: {workload} ", end="", flush=True)
    print()
    return results


def bounded(
    everybody: list[Contender], url: str, folder: Path, users: int, *, rounds: int, seconds: float, short: bool
) -> list[Bound]:
    """Measure what has a bound of its own, on ours: the second of everybody."""
    limit, one, *_ = everybody
    small = Place(asyncio.run(make_database(url, "small")), folder, min(1000, users))
    asyncio.run(seeded(small, settings_of_ours(small)))
    place = Place(urlsplit(url)._replace(path="/ours").geturl(), folder, users)
    # After all that was written: what is compared is how many users there are.
    for name in ("limit_l1", "ours"):
        asyncio.run(vacuumed(urlsplit(url)._replace(path=f"/{name}").geturl()))
    found = []
    everything = chain(
        bounds(
            limit,
            one,
            place,
            small,
            folder,
            rounds=rounds,
            seconds=seconds,
            requests=1000 if short else 100_000,
        ),
        # At last: it empties the table.
        bulk(small, rounds=rounds, rows=users),
    )
    for bound in everything:
        found.append(bound)
        print(f"  {bound.text}", flush=True)
    return found


def loaded(one: Contender, workload: str, folder: Path, seconds: float) -> Load:
    """Return what came of one workload on one contender.

    Raises:
        CannotMeasure: An answer was wrong.
    """
    request = one.requests[workload]
    connections = LOGINS_AT_ONCE if workload == "W3" else min(CONNECTIONS, len(request.rotating) // 2 or CONNECTIONS)
    # Once briefly: what is done at the first request only is no part of it.
    for length in (min(1.0, seconds), seconds):
        found = load(one.url, request, folder, seconds=length, connections=connections)
        if found.rotating:
            request = one.requests[workload] = replace(request, rotating=found.rotating)
    return found


def main() -> int:
    """Run the benchmark, print the table, and write docs/performance.md if it was a whole one."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--large", action="store_true", help="a million users instead of 100,000")
    parser.add_argument("--short", action="store_true", help="only see that it works: nothing is judged or written")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each load, whole ones")
    options = parser.parse_args()
    users = 1_000_000 if options.large else 2_000 if options.short else 100_000
    rounds, seconds = (1, 1) if options.short else (options.rounds, options.seconds)
    try:
        wrk()
        if not PYTHON.exists():
            raise CannotMeasure("The environment of the peers is missing", hint="make bench makes it")
        # Short, because a socket's path may have 100 characters only.
        with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
            folder = Path(name)
            database = stack.enter_context(EmbeddedPostgres(folder / "pg", binaries=None).acquire(create=True))
            everybody = stack.enter_context(contenders(database.url, folder, users))
            results = measure(everybody, folder, rounds=rounds, seconds=seconds)
            found = bounded(everybody, database.url, folder, users, rounds=rounds, seconds=seconds, short=options.short)
    except ApictlError as error:
        print(f"error: {error.detail}\ncause: {error.cause or '-'}\nhint: {error.hint or '-'}", file=sys.stderr)
        return error.kind.exit_code
    names = [one.name for one in everybody]
    print("\n".join([*report.table(results, names), "", *lines_of_bounds(found)]))
    noisy = report.noise(results)
    if noisy:
        print(f"\nThe machine was too noisy to judge by: {noisy}")
    if not options.short:
        report.write(results, names, lines_of_bounds(found), users=users, rounds=rounds, seconds=seconds, noisy=noisy)
        print("\nWritten: docs/performance.md, docs/performance.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
