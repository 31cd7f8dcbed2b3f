"""What has a bound of its own, and is no comparison: waiting at half the load, growth, a second worker, memory."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.contenders import Contender, Place, ours
from benchmarks.load import CONNECTIONS, load
from benchmarks.report import shown
from tests.support.server import resident


class Bound(NamedTuple):
    """What was measured of something, the figures of its rounds, and what it may be."""

    text: str
    found: list[float]
    goal: str
    unit: str = ""


def bounds(
    limit: Contender,
    one: Contender,
    place: Place,
    small: Place,
    folder: Path,
    *,
    rounds: int,
    seconds: float,
    requests: int,
) -> Iterator[Bound]:
    """Yield every bound, as soon as it is measured.

    Args:
        limit: What this machine can do, which runs.
        one: Ours, which runs.
        place: Where it works.
        small: A database of a thousand users.
        folder: For what is sent.
        rounds: How often.
        seconds: Of each load.
        requests: After how many a worker's memory is looked at.
    """
    yield from waiting(limit, one, folder, rounds=rounds, seconds=seconds)
    with ExitStack() as stack:
        few = stack.enter_context(ours(small))
        for workload, name in (("W1", "`/me`"), ("W2", "a list")):
            found = compared(one, few, workload, folder, rounds=rounds, seconds=seconds)
            yield Bound(f"{name} with {place.users:,} users, to the same with {small.users:,}", found, "0.9")
    with ExitStack() as stack:
        two = stack.enter_context(ours(place, workers=2))
        found = compared(two, one, "W1", folder, rounds=rounds, seconds=seconds)
        yield Bound("`/me` by two workers, to one", found, "1.25")
    with ExitStack() as stack:
        yield from memory(stack.enter_context(ours(place)), folder, seconds=seconds, requests=requests)


def waiting(limit: Contender, one: Contender, folder: Path, *, rounds: int, seconds: float) -> Iterator[Bound]:
    """Yield how much longer the slowest of a hundred wait than the one in the middle, at half of what could be.

    The limit's own stands beside it: this machine's scheduler is a part of both.
    """
    for workload, name in (("W1", "`/me`"), ("W2", "a list"), ("W5", "refresh")):
        found: dict[str, list[float]] = {one.name: [], limit.name: []}
        for _ in range(rounds):
            for contender in (one, limit):
                contender.requests.update(contender.renew())
                request = contender.requests[workload]
                full = load(contender.url, request, folder, seconds=seconds)
                pause = max(1, round(2000 * CONNECTIONS / full.per_second - full.p50 / 2))
                # What was rotated goes on where it is.
                request = replace(request, rotating=full.rotating)
                half = load(contender.url, request, folder, seconds=seconds, pause=pause)
                contender.requests[workload] = replace(request, rotating=half.rotating)
                found[contender.name].append(half.p99 / half.p50)
        yield Bound(f"p99 of {name} at half of the load, to p50", found[one.name], "at most 3")
        yield Bound(f"the same of {limit.name}", found[limit.name], "-")


def compared(
    one: Contender, other: Contender, workload: str, folder: Path, *, rounds: int, seconds: float
) -> list[float]:
    """Return how many requests one answers to one of the other's, in each round."""
    found = []
    for _ in range(rounds):
        rates = []
        for contender in (one, other):
            request = contender.renew()[workload]
            # In the first round, one of the two has not been asked anything yet.
            load(contender.url, request, folder, seconds=min(1.0, seconds))
            rates.append(load(contender.url, request, folder, seconds=seconds).per_second)
        found.append(rates[0] / rates[1])
    return found


def memory(one: Contender, folder: Path, *, seconds: float, requests: int) -> Iterator[Bound]:
    """Yield the memory of a worker after so many requests, and what as many more add."""
    taken = []
    for _ in range(2):
        left = requests
        while left > 0:
            found = load(one.url, one.renew()["W1"], folder, seconds=seconds)
            left -= round(found.per_second * seconds)
        taken.append(resident(one.process) / 1024)
    yield Bound(f"memory of a worker after {requests:,} requests", taken[:1], "at most 120", "MiB")
    yield Bound(f"what {requests:,} more add", [taken[1] - taken[0]], "nothing", "MiB")


def lines(found: list[Bound]) -> list[str]:
    """Return the table, a line each, in Markdown."""
    rows = ["| | | goal |", "|---|---|---|"]
    for text, values, goal, unit in found:
        rows.append(f"| {text} | {f'{values[0]:.0f} {unit}' if unit else shown(values)} | {goal} |")
    return rows
