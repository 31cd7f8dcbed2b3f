"""A load on one route, made by wrk (Debian's package), and whether every answer to it was right."""

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from api.core.errors import ApictlError, Kind

CONNECTIONS: Final = 32
SCRIPT: Final = Path(__file__).with_name("load.lua")


class CannotMeasure(ApictlError):
    """Something that the benchmark needs is missing, or an answer was wrong: no figure would mean anything."""

    kind = Kind.MISCONFIGURED
    code = "cannot-measure"
    title = "The benchmark cannot be run"


@dataclass(frozen=True, slots=True)
class Request:
    """What one workload sends to one application.

    Attributes:
        path: The path with its query.
        method: The method.
        tokens: Bearer tokens that take turns; none: no header.
        pages: Ends of the path that take turns, of requests without a body.
        body: What is sent; `{n}` in it is another number each time, `{turn}` goes round from 2 to 65, and `{token}` is
            one of `rotating`.
        content_type: Of the body.
        rotating: Refresh tokens, each of which is good once; the answer has the next one.
        expect: A part of every right answer's body.
        status: The status of every right answer.
    """

    path: str
    method: str = "GET"
    tokens: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    body: str | None = None
    content_type: str = "application/json"
    rotating: tuple[str, ...] = ()
    expect: str = ""
    status: int = 200


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it.

    Attributes:
        per_second: Right answers.
        p50: Milliseconds, as p99.
        rotating: The refresh tokens that are good now.
    """

    per_second: float
    p50: float
    p99: float
    rotating: tuple[str, ...] = field(default=(), repr=False)


def wrk() -> str:
    """Return the program.

    Raises:
        CannotMeasure: It is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise CannotMeasure("wrk, which makes the load, is not installed", hint="on Debian and Ubuntu: apt install wrk")
    return found


def load(
    url: str, request: Request, folder: Path, *, seconds: float, connections: int = CONNECTIONS, pause: int = 0
) -> Load:
    """Ask again and again for so long, over so many connections, and return what came of it.

    Each connection pauses for so many milliseconds before a request, on average.

    Raises:
        CannotMeasure: An answer was not as expected, or a connection failed; or there are too few tokens to rotate.
    """
    if request.rotating and len(request.rotating) < 2 * connections:
        raise CannotMeasure(
            f"{url} has {len(request.rotating)} refresh tokens left", hint="fewer rounds, or more tokens"
        )
    plan = folder / "plan"
    plan.mkdir(exist_ok=True)
    left = plan / "left"
    left.unlink(missing_ok=True)
    # Files, because tokens do not belong on a command line.
    for name, lines in (("tokens", request.tokens), ("pages", request.pages), ("rotating", request.rotating)):
        (plan / name).write_text("\n".join(lines))
    (plan / "body").write_text(request.body or "")
    arguments = [str(plan), request.method, request.path, request.content_type, str(request.status), request.expect]
    arguments.append(str(pause))
    ended = subprocess.run(  # noqa: S603
        [wrk(), "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=10s", f"-s{SCRIPT}", url, "--", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    if found["wrong"]:
        raise CannotMeasure(f"{url}{request.path} gave {found['wrong']} wrong answers")
    return Load(
        per_second=found["requests"] / found["seconds"],
        p50=found["p50"],
        p99=found["p99"],
        rotating=tuple(left.read_text().split()) if request.rotating else (),
    )
