"""What a benchmark's figures look like: on the terminal, in docs/performance.md, and as a picture of bars."""

import os
import platform
import statistics
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.load import Load

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
Results = dict[tuple[str, str], list[Load]]

LIMIT: Final = "L1"
OURS: Final = "apictl"
HASHES: Final = "hashes alone"
WORKLOADS: Final = {
    "W1": "`/me`: the row of whoever asks",
    "W2": "a list of 50, all the same",
    "W2p": "a list of 50, another page each",
    "W3": "login, to the rate of the hash alone",
    "W4h": "create a user, nothing hashed",
    "W5": "refresh, with rotation",
    "W6": "a plain answer",
}
GOALS: Final = {"W1": 1.0, "W2": 1.0, "W2p": 1.0, "W3": 0.9, "W4h": 0.6, "W5": 0.5, "W6": 0.5}
# The limit's own rounds differ by more than this: whatever is compared with it says nothing.
NOISE: Final = 0.3

BELOW: Final = "<!-- What follows is not written by make bench. -->\n"
PAGE: Final = """# Performance

Written by `make bench` on {day}: {users:,} users, {rounds} rounds of {seconds:g} seconds each, in turn; {cores} cores,
which also carry PostgreSQL and the load; one server process each; {versions}. 32 connections. Every answer had the
right status, and what its body has to have.

Figures are ratios to L1 in the same round: medians, and from where to where they went. L1 (`benchmarks/limit.py`) is
raw ASGI with one query a request: what a careful engineer would call the limit. It believes its tokens, where apictl
looks at the session, the user and their roles each time.

{noisy}{table}

![The same as bars](performance.svg)

Requests a second and milliseconds, on that machine on that day:

{absolute}

What has a bound of its own:

{bounds}

"""


def against(workload: str) -> str:
    """Return what a workload's figures are ratios to."""
    return HASHES if workload == "W3" else LIMIT


def ratios(results: Results, workload: str, name: str) -> list[float]:
    """Return a contender's ratio in each round, each to the limit in the same round."""
    pairs = zip(results.get((workload, name), []), results[workload, against(workload)], strict=False)
    return [own.per_second / limit.per_second for own, limit in pairs]


def shown(found: list[float]) -> str:
    """Return a median, and from where to where it went."""
    if not found:
        return "-"
    return f"{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f})"


def table(results: Results, names: list[str]) -> list[str]:
    """Return the table, a line each, in Markdown."""
    lines = [f"| | {' | '.join(names)} | goal |", f"|---|{'---|' * len(names)}---|"]
    for workload, text in WORKLOADS.items():
        cells = [shown(ratios(results, workload, name)) for name in names]
        lines.append(f"| {workload} {text} | {' | '.join(cells)} | {GOALS[workload]:.1f} |")
    return lines


def absolute(results: Results, names: list[str]) -> list[str]:
    """Return what was measured, before it was divided: only this machine, on this day, has these figures."""
    lines = ["| | | per second | p50 ms | p99 ms |", "|---|---|---|---|---|"]
    for workload in WORKLOADS:
        for name in [HASHES, *names] if workload == "W3" else names:
            loads = results.get((workload, name), [])
            if loads:
                rate, p50, p99 = (
                    statistics.median(getattr(one, column) for one in loads) for column in ("per_second", "p50", "p99")
                )
                waited = f"{p50:.1f} | {p99:.1f}" if p99 else "- | -"
                lines.append(f"| {workload} | {name} | {rate:,.0f} | {waited} |")
    return lines


def noise(results: Results) -> str:
    """Return which of the limit's own figures differed too much from round to round; empty: none."""
    said = []
    for workload in WORKLOADS:
        rates = [one.per_second for one in results.get((workload, against(workload)), [])]
        if len(rates) > 1 and max(rates) - min(rates) > NOISE * statistics.median(rates):
            said.append(f"{workload} of {against(workload)} went from {min(rates):,.0f} to {max(rates):,.0f} a second")
    return "; ".join(said)


def picture(results: Results, names: list[str]) -> str:
    """Return an SVG of bars: for each workload one group, each bar a contender's ratio to the limit."""
    colors = {LIMIT: "#9aa5b1", OURS: "#0b7285"}
    others = ("#e8590c", "#5f3dc4", "#2b8a3e")
    colors |= dict(zip([name for name in names if name not in colors], others, strict=False))
    height, left, width, top = 18, 250, 420, 40
    found = {
        (workload, name): statistics.median(values)
        for workload in WORKLOADS
        for name in names
        if (values := ratios(results, workload, name))
    }
    scale = width / max(found.values())
    parts, y = [], top
    for workload, text in WORKLOADS.items():
        parts.append(f'<text x="8" y="{y + 13}" font-weight="bold">{workload} {escape(text.replace("`", ""))}</text>')
        y += height + 2
        for name in names:
            ratio = found.get((workload, name))
            if ratio is None:
                continue
            length = max(1.0, ratio * scale)
            parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
            parts.append(
                f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{height - 4}" fill="{colors[name]}"/>'
            )
            parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 13}">{ratio:.2f}</text>')
            y += height
        y += 10
    style = "font-family: system-ui, sans-serif; font-size: 12px"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {y}" style="{style}" role="img">'
        "<title>Requests a second, as ratios to the machine's own limit</title>"
        '<rect width="100%" height="100%" fill="white"/>'
        '<text x="8" y="20" font-size="15">Requests a second, as a ratio to L1, what this machine can do</text>'
        f"{''.join(parts)}</svg>\n"
    )


def write(
    results: Results, names: list[str], bounds: list[str], *, users: int, rounds: int, seconds: float, noisy: str
) -> None:
    """Write docs/performance.md's figures and its picture; what a person wrote below them stays."""
    page = DOCS / "performance.md"
    _, _, kept = page.read_text(encoding="utf-8").partition(BELOW) if page.exists() else ("", "", "")
    parts = ("fastapi", "uvicorn", "asyncpg", "SQLAlchemy")
    text = PAGE.format(
        day=datetime.now(UTC).date(),
        users=users,
        rounds=rounds,
        seconds=seconds,
        cores=os.cpu_count(),
        versions=", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in parts)]),
        noisy=f"**The machine was too noisy to judge by: {noisy}.**\n\n" if noisy else "",
        table="\n".join(table(results, names)),
        absolute="\n".join(absolute(results, names)),
        bounds="\n".join(bounds),
    )
    page.write_text(text + BELOW + kept, encoding="utf-8")
    (DOCS / "performance.svg").write_text(picture(results, names), encoding="utf-8")
