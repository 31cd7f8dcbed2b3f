"""What a run of `make faults` has seen: on the terminal, and in docs/reliability.md."""

from typing import Final, NamedTuple

from tools import reliability

HEAD: Final = """Written by `make faults` on {place}. PostgreSQL and the load are on the same cores. Each fault
is a real one: processes are killed, a proxy between server and database falls silent or cuts, a disk fills up. {result}

"""


class Seen(NamedTuple):
    """One fault: what must hold, what was seen, and whether it held; None: it could not be tried here."""

    fault: str
    must: str
    was: str
    held: bool | None


def table(seen: list[Seen]) -> list[str]:
    """Return the table, a line each, in Markdown."""
    words = {True: "yes", False: "**no**", None: "not tried"}
    lines = ["| fault | what must hold | what was seen | held |", "|---|---|---|---|"]
    return lines + [f"| {one.fault} | {one.must} | {one.was} | {words[one.held]} |" for one in seen]


def write(seen: list[Seen], postgres: str) -> None:
    """Write their part of the page."""
    failed = sum(one.held is False for one in seen)
    result = f"**{failed} did not hold.**" if failed else "All that could be tried held."
    head = HEAD.format(place=reliability.place(postgres), result=result)
    reliability.write("faults", head + "\n".join(table(seen)))
