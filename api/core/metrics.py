"""What a server counts and measures, in Prometheus's text format (version 0.0.4), of all its processes together.

Every process keeps its own numbers, and of several each writes them into a folder once a second; whichever is asked
adds them up. What a process counted that has ended still counts, or the sum would go back.
"""

import asyncio
import logging
import os
import platform
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Literal

import orjson

from api import __version__
from api.core.direct import CONNECTIONS, Statement
from api.core.errors import ApictlError, BadSettings
from api.core.logs import METHODS
from api.core.runtime import Runtime

log: Final = logging.getLogger("apictl")
# Where the processes of one server meet; set by whoever starts them.
FOLDER_VARIABLE: Final = "APICTL_METRICS_FOLDER"
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Every so many seconds the event loop is looked at; every so many looks, the numbers are written.
LOOK, LOOKS = 0.1, 10
# A process that has written nothing for so long is gone, or hangs: what it has in hand does not count.
SILENT: Final = 10
# The greatest lag is that of this many seconds at least, and of twice as many at most.
RECENT: Final = 15
Kind = Literal["counter", "gauge", "histogram"]
FAMILIES: Final[dict[str, tuple[Kind, str]]] = {
    "apictl_requests_total": ("counter", "Requests answered; a route of none is what nobody serves."),
    "apictl_request_duration_seconds": ("histogram", "From a request's head to the end of its answer."),
    "apictl_requests_in_flight": ("gauge", "Requests that are being answered."),
    "apictl_failures_total": ("counter", "Refusals and failures, by the error code of the answer."),
    "apictl_grants_total": ("counter", "Logins, refreshes and other grants of the token endpoint, and how they ended."),
    "apictl_pool_connections": ("gauge", "Database connections, by pool and by what they do."),
    "apictl_pool_size": ("gauge", "Database connections that there may be, by pool."),
    "apictl_mails": ("gauge", "Mails not sent: to be tried again, a minute late, given up within a week."),
    "apictl_passwords": ("gauge", "Passwords that are being hashed, or wait for it."),
    "apictl_loop_lag_seconds": ("histogram", "How much later the event loop came back than it should have."),
    "apictl_loop_lag_max_seconds": ("gauge", "The greatest of the last quarter of a minute or so, in any process."),
    "apictl_workers": ("gauge", "Processes that answer."),
    "apictl_build_info": ("gauge", "1: what runs."),
    "process_cpu_seconds_total": ("counter", "Processor time."),
    "process_resident_memory_bytes": ("gauge", "Memory in use."),
    "process_open_fds": ("gauge", "Open files and connections."),
}
# What deploy/prometheus/alerts.yml looks at is there from the start: in a counter that is there from its first event
# on, Prometheus sees no increase, and with a counter that is not there it compares nothing.
ALERTED_FAILURES: Final = (
    *("internal-error", "database-unreachable", "database-timeout", "database-newer"),
    *("valkey-unreachable", "outcome-unknown", "schema-behind", "bad-settings"),
)
ALERTED_OUTCOMES: Final = ("granted", "invalid-grant", "too-many-attempts")
# Of several processes, the greatest is meant, and not the sum.
GREATEST: Final = ("apictl_loop_lag_max_seconds", "apictl_build_info", "apictl_mails")
Samples = dict[str, float]


def port_clash(port: int) -> BadSettings:
    """Return that the port of the numbers is that of requests, at whatever address: who comes there is shown them."""
    return BadSettings(f"APICTL_METRICS_PORT is {port}, which requests come to", hint="choose another for one of them")


class Histogram:
    """How many values were at most so large, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Take one more."""
        self.counts[bisect_left(BOUNDS, value)] += 1
        self.total += value

    def put(self, samples: Samples, name: str, labels: str) -> None:
        """Add it to the samples, where each bucket has all that is in the smaller ones."""
        seen = 0
        for bound, count in zip((*BOUNDS, "+Inf"), self.counts, strict=True):
            seen += count
            more(samples, f'{name}_bucket{{{labels}{"," if labels else ""}le="{bound}"}}', seen)
        braced = f"{{{labels}}}" if labels else ""
        more(samples, f"{name}_count{braced}", seen)
        more(samples, f"{name}_sum{braced}", self.total)


class Metrics:
    """The numbers of this process, and those of the others beside it.

    Attributes:
        port: Where they are shown.
        in_flight: Requests that are being answered.
    """

    def __init__(self, port: int, *, revision: str, folder: str | None) -> None:
        self.port = port
        labels = f'version="{__version__}",revision="{revision}",python="{platform.python_version()}"'
        self._build = f"apictl_build_info{{{labels}}}"
        self.in_flight = 0
        self._requests: dict[tuple[str, str, int], Histogram] = {}
        # The same once more, as a request finds them.
        self._found: dict[tuple[str, Any, int], Histogram] = {}
        self._failures = dict.fromkeys(ALERTED_FAILURES, 0)
        self._grants = {("password", outcome): 0 for outcome in ALERTED_OUTCOMES}
        self._lag = Histogram()
        self._lags = [0.0, 0.0]
        self._runtime: Runtime | None = None
        # What the database says, as it was last read.
        self._read: Samples = {}
        # Two processes of a container may have had the same id.
        self._file = Path(folder) / f"{os.getpid()}-{token_hex(4)}" if folder else None

    def answered(self, method: str, route: Any, status: int, seconds: float) -> None:
        """Count a request; the route is the framework's, or None."""
        path = None if route is None else route.path
        histogram = self._found.get((method, path, status))
        if histogram is None:
            # What somebody makes up is one series, whatever it is.
            key = method if method in METHODS else "other", path or "none", status
            histogram = self._requests.setdefault(key, Histogram())
            if key[0] == method:
                self._found[method, path, status] = histogram
        histogram.counts[bisect_left(BOUNDS, seconds)] += 1
        histogram.total += seconds

    def failed(self, code: str) -> None:
        """Count a failure that was answered."""
        self._failures[code] = self._failures.get(code, 0) + 1

    def granted(self, grant: str, outcome: str) -> None:
        """Count what became of a grant."""
        self._grants[grant, outcome] = self._grants.get((grant, outcome), 0) + 1

    @asynccontextmanager
    async def kept(self, runtime: Runtime, counts: Mapping[str, Statement]) -> AsyncIterator[None]:
        """Look at the event loop, and write the numbers down for the others, for the length of a `with` block.

        Args:
            runtime: The process's resources.
            counts: What is read from the database now and then, by family: one row, each of its columns a state.
        """
        self._runtime = runtime
        tasks = [asyncio.create_task(one) for one in (self._look(), self._count(runtime, counts))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._write(at=0)

    async def _look(self) -> None:
        looks = 0
        while True:
            due = time.monotonic() + LOOK
            await asyncio.sleep(LOOK)
            lag = max(0.0, time.monotonic() - due)
            self._lag.add(lag)
            self._lags[-1] = max(self._lags[-1], lag)
            looks += 1
            if looks % LOOKS == 0:
                self._write(at=time.time())
            if looks % int(RECENT / LOOK) == 0:
                self._lags = [self._lags[-1], 0.0]

    async def _count(self, runtime: Runtime, counts: Mapping[str, Statement]) -> None:
        while True:
            read: Samples = {}
            try:
                for family, statement in counts.items():
                    (row,) = await runtime.direct.fetch(statement)
                    read |= {f'{family}{{state="{state}"}}': count for state, count in row.items()}
            except ApictlError:
                # Of a database that does not answer, nothing is known.
                read = {}
            except Exception:
                # A bug of ours ends no count.
                log.exception("the database's numbers could not be read")
                read = {}
            self._read = read
            await asyncio.sleep(RECENT)

    def _write(self, *, at: float) -> None:
        """Write the numbers down; whoever reads sees all of them, or those before."""
        if self._file is not None:
            scratch = self._file.with_suffix(".new")
            # A full disk is no reason to stop.
            with suppress(OSError):
                scratch.write_bytes(orjson.dumps({"at": at, "samples": self.samples()}))
                scratch.rename(self._file)

    def exposition(self) -> str:
        """Return the numbers of all processes, in the text format."""
        if self._file is None:
            return text_of(self.samples())
        # One way for all of them, so that no counter is ever less than it was, whoever is asked.
        self._write(at=time.time())
        together: Samples = {}
        for path in sorted(self._file.parent.iterdir()):
            if path.suffix:
                continue
            with suppress(OSError, ValueError):
                found = orjson.loads(path.read_bytes())
                add(together, found["samples"], is_alive=time.time() - found["at"] < SILENT)
        return text_of(together)

    def samples(self) -> Samples:
        """Return the numbers of this process, by name and labels."""
        samples: Samples = {"apictl_requests_in_flight": self.in_flight, "apictl_workers": 1}
        for (method, route, status), found in self._requests.items():
            labels = f'method="{method}",route="{route}"'
            more(samples, f'apictl_requests_total{{{labels},status="{status}"}}', sum(found.counts))
            found.put(samples, "apictl_request_duration_seconds", labels)
        for code, count in self._failures.items():
            samples[f'apictl_failures_total{{code="{code}"}}'] = count
        for (grant, outcome), count in self._grants.items():
            samples[f'apictl_grants_total{{grant="{grant}",outcome="{outcome}"}}'] = count
        self._lag.put(samples, "apictl_loop_lag_seconds", "")
        samples["apictl_loop_lag_max_seconds"] = max(self._lags)
        samples[self._build] = 1
        samples |= self._read
        if self._runtime is not None:
            put_resources(samples, self._runtime)
        put_process(samples)
        return samples


def put_resources(samples: Samples, runtime: Runtime) -> None:
    """Add what the process's pools have in hand."""
    pool: Any = runtime.engine.pool
    pools = (
        ("sessions", pool.checkedout(), pool.checkedin(), pool.size()),
        ("direct", runtime.direct.in_use, runtime.direct.idle, CONNECTIONS),
        ("spare", runtime.spare.in_use, runtime.spare.idle, 1),
    )
    for name, in_use, idle, size in pools:
        samples[f'apictl_pool_connections{{pool="{name}",state="in_use"}}'] = in_use
        samples[f'apictl_pool_connections{{pool="{name}",state="idle"}}'] = idle
        samples[f'apictl_pool_size{{pool="{name}"}}'] = size
    samples['apictl_pool_connections{pool="direct",state="awaited"}'] = runtime.direct.awaited
    samples['apictl_passwords{state="waiting"}'] = runtime.passwords.waiting
    samples['apictl_passwords{state="hashing"}'] = runtime.passwords.hashing


def put_process(samples: Samples) -> None:
    """Add what the process takes of the machine; memory and files where the system says it as Linux does."""
    samples["process_cpu_seconds_total"] = time.process_time()
    with suppress(OSError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        samples["process_resident_memory_bytes"] = int(pages) * os.sysconf("SC_PAGE_SIZE")
        samples["process_open_fds"] = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - none of them is a file of ours


def more(samples: Samples, name: str, value: float) -> None:
    """Add a number to the one that is there."""
    samples[name] = samples.get(name, 0) + value


def add(together: Samples, samples: Mapping[str, float], *, is_alive: bool) -> None:
    """Add a process's numbers; of one that has ended, what it counted, and not what it has in hand."""
    for name, value in samples.items():
        family = family_of(name)
        if family in GREATEST and is_alive:
            together[name] = max(value, together.get(name, 0))
        elif is_alive or FAMILIES[family][0] != "gauge":
            more(together, name, value)


def family_of(sample: str) -> str:
    """Return what a sample belongs to: a histogram has several."""
    name = sample.partition("{")[0]
    return name if name in FAMILIES else name.rpartition("_")[0]


def text_of(samples: Samples) -> str:
    """Return samples in the text format: each family's together, with what it is."""
    lines: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for name, value in samples.items():
        lines[family_of(name)].append(f"{name} {value}")
    return "".join(
        "\n".join([f"# HELP {family} {FAMILIES[family][1]}", f"# TYPE {family} {FAMILIES[family][0]}", *found, ""])
        for family, found in lines.items()
        if found
    )
