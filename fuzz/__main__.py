"""`make fuzz`: inputs that nobody thought of, by the thousand, for the parsers and for every route."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import SecretStr

from api.config import Settings
from api.main import create_app
from fuzz.parsers import PARSERS
from tools import reliability

ROOT: Final = Path(__file__).resolve().parent.parent
# What the parsers may take for one input: seconds, and MiB in all.
SLOWEST: Final = 5
MOST_MEMORY: Final = 1024


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a child: nothing of ours is set in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("APICTL_")} | more


def fuzz_parser(name: str, seeds: tuple[bytes, ...], folder: Path, seconds: int) -> tuple[int, str]:
    """Have atheris try one parser for so long; return how many inputs it made, and what it found: nothing, if empty."""
    corpus = folder / name
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    limits = (f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MOST_MEMORY}", "-max_len=4096")
    line = [sys.executable, "-m", "fuzz.target", name, *limits, "-print_final_stats=1", f"-artifact_prefix={folder}/"]
    ended = subprocess.run(  # noqa: S603 - ourselves
        [*line, str(corpus)], cwd=ROOT, env=environment(), capture_output=True, text=True, errors="replace", check=False
    )
    count = re.search(r"stat::number_of_executed_units:\s*(\d+)", ended.stderr)
    # The traceback is on stdout, the input on stderr.
    found = ended.stdout[-3000:] + ended.stderr[-1000:]
    return int(count[1]) if count else 0, "" if ended.returncode == 0 else found


def fuzz_routes(requests: int) -> tuple[int, str]:
    """Have schemathesis invent about so many requests, as many for each route, for a server as it is installed."""
    document = create_app(Settings(secret_key=SecretStr(os.urandom(32).hex()))).openapi()
    return run_tests(
        -(-requests // sum(map(len, document["paths"].values()))), "tests/api/test_contract.py", "superuser"
    )


def fuzz_values(values: int) -> tuple[int, str]:
    """Put so many texts into each field of bodies and forms, queries, paths and headers."""
    return run_tests(values, "tests/core/test_hostile_input.py", "hostile_values_in")


def run_tests(each: int, file: str, which: str) -> tuple[int, str]:
    """Run those of the tests that invent so many requests for each of something; return how many, and what failed."""
    with tempfile.NamedTemporaryFile("r") as counted:
        more = {"APICTL_FUZZ_REQUESTS": str(each), "APICTL_FUZZ_COUNT": counted.name, "APICTL_TEST_THOROUGH": "1"}
        line = [sys.executable, "-m", "pytest", "-q", file, "-k", which]
        ended = subprocess.run(line, cwd=ROOT, env=environment(**more), capture_output=True, text=True, check=False)  # noqa: S603
        count = sum(map(int, counted.read().split()))
    return count, "" if ended.returncode == 0 else ended.stdout[-3000:]


class Tried(NamedTuple):
    """What came of one target: so many inputs, and what was found, if anything."""

    name: str
    about: str
    inputs: int
    found: str

    @property
    def has_failed(self) -> bool:
        """Whether something was found; or nothing tried, which shows nothing."""
        return bool(self.found) or not self.inputs


def main() -> int:
    """Fuzz everything, and tell what was found; write docs/reliability.md if it was a whole run."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--short", action="store_true", help="two seconds a parser, and no requests")
    parser.add_argument("--seconds", type=int, default=60, help="for each parser")
    parser.add_argument("--values", type=int, default=700, help="for each of 76 places in bodies, queries and the like")
    parser.add_argument("--requests", type=int, default=20_000, help="for all routes together")
    names = [*(one.__name__ for one in PARSERS), "values", "routes"]
    parser.add_argument("only", nargs="*", help=f"of: {', '.join(names)}")
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    tried = []
    for one in targets(options):
        print(f"{one.name:16} {one.inputs:>12,} {'FAILED' if one.has_failed else 'ok'}", flush=True)
        if one.has_failed:
            print(one.found)
        tried.append(one)
    if not options.short and not options.only:
        reliability.write("fuzz", "\n".join(page(tried, options.seconds)))
        print("\nWritten: docs/reliability.md")
    return int(any(one.has_failed for one in tried))


def targets(options: argparse.Namespace) -> Iterator[Tried]:
    """Yield what came of each target that was asked for."""
    seconds = 2 if options.short else options.seconds
    parsers = [one for one in PARSERS if not options.only or one.__name__ in options.only]
    # One for each core.
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, ThreadPoolExecutor(os.cpu_count()) as threads:
        found = [threads.submit(fuzz_parser, one.__name__, PARSERS[one], Path(name), seconds) for one in parsers]
        for one, result in zip(parsers, found, strict=True):
            yield Tried(one.__name__, (one.__doc__ or "").rstrip("."), *result.result())
    if "values" in options.only or not (options.short or options.only):
        about = "Texts and numbers in every field of bodies and forms, in queries, paths and headers"
        yield Tried("values", about, *fuzz_values(options.values))
    if "routes" in options.only or not (options.short or options.only):
        about = "Requests for every route, by its own description or against it"
        yield Tried("routes", about, *fuzz_routes(options.requests))


def page(tried: list[Tried], seconds: int) -> list[str]:
    """Return their part of docs/reliability.md, a line each."""
    rows = [f"| {one.about} | {one.inputs:,} | {'**something**' if one.has_failed else 'nothing'} |" for one in tried]
    place = reliability.place(f"atheris {version('atheris')}")
    return [
        f"Written by `make fuzz` on {place}. The parsers' inputs are made by atheris, which is led by",
        f"the code that they reach, for {seconds} seconds each; those for every route by schemathesis. Found is",
        "whatever is no refusal in its one form: a traceback, a 500, an answer that the description does not have, an",
        "input that is read in two ways.",
        "",
        "| what | inputs | found |",
        "|---|---|---|",
        *rows,
    ]


if __name__ == "__main__":
    sys.exit(main())
