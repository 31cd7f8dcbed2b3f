"""What Prometheus is told: by one process and by several, of what was asked and no more; and what reads it."""

import asyncio
import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import pytest
import yaml

from api.config import Settings
from api.core.errors import ApictlError
from api.core.metrics import FAMILIES, GREATEST, LOOK, Metrics, add, family_of, text_of
from api.core.runtime import Runtime
from api.mail.crud import NOT_SENT
from api.users.models import User
from benchmarks.servers import free_port
from tests.conftest import PASSWORD, SUPERUSER
from tests.postgres.machine import until
from tests.support.processes import Apictl
from tests.support.server import Server, serving

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
SAMPLE: Final = re.compile(r'([a-z_]+)(\{([a-z_]+="[^"\\\n]*",?)+\})? (\d[\d.e+-]*)')


def parsed(text: str) -> dict[str, float]:
    """Return the samples of an exposition, which is as the format has it: families together, each sample once."""
    found: dict[str, float] = {}
    families: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP"):
            families.append(line.split()[2])
        elif line.startswith("# TYPE"):
            assert line.split()[2:] == [families[-1], FAMILIES[families[-1]][0]]
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            name = line.rpartition(" ")[0]
            assert family_of(name) == families[-1]
            assert name not in found
            found[name] = float(sample[4])
    assert len(families) == len(set(families))
    assert text.endswith("\n")
    return found


def shown(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text: str = answer.read().decode()
        return text


def test_several_workers_are_one(apictl: Apictl, environment: dict[str, str], superuser: User) -> None:
    """Whoever is asked tells of all; nothing goes back when one of them is killed."""
    port = free_port()
    own = environment | {"APICTL_METRICS_PORT": str(port), "APICTL_LOG_REQUESTS": "true"}
    with serving("serve", "--workers", "2", environment=own, start=apictl.start) as server:
        server.get("/health/ready")
        until(lambda: parsed(shown(port)).get("apictl_workers") == 2, "the second worker did not come")
        asked = ask(server) + 1
        # Each process writes once a second.
        until(lambda: counted(parsed(shown(port))) == asked, "not all requests are counted")
        samples = parsed(shown(port))
        requests = {name: value for name, value in samples.items() if name.startswith("apictl_requests_total")}
        assert requests['apictl_requests_total{method="GET",route="/v1/users/{user}",status="401"}'] == 20
        # Whatever is made up is one series.
        assert requests['apictl_requests_total{method="GET",route="none",status="404"}'] == 20
        assert samples['apictl_failures_total{code="not-authenticated"}'] == 20
        assert samples['apictl_grants_total{grant="password",outcome="granted"}'] == 1
        assert samples['apictl_grants_total{grant="password",outcome="invalid-grant"}'] == 2
        assert samples['apictl_grants_total{grant="other",outcome="unsupported-grant-type"}'] == 1
        assert samples["process_resident_memory_bytes"] > 50e6 or os.name != "posix"
        assert {family_of(name) for name in samples} == set(FAMILIES)
        assert samples['apictl_mails{state="late"}'] == 0
        assert samples['apictl_pool_size{pool="spare"}'] == 2
        # Neither port has what the other one has.
        assert server.get("/metrics")[0] == 404
        with pytest.raises(urllib.error.HTTPError, match="404"):
            shown(port, "/health/live")
        children = re.findall(r"Started server process \[(\d+)\]", server.printed)
        os.kill(int(children[0]), signal.SIGKILL)
        server.wait_for(r"died")
        until(lambda: parsed(shown(port)).get("apictl_workers", 0) >= 2, "no other worker came")
        after = parsed(shown(port))
        assert all(after[name] >= value for name, value in requests.items())
        folder = environment_of(int(children[1]))["APICTL_METRICS_FOLDER"]
        assert Path(folder).stat().st_mode & 0o077 == 0
        server.end()
    assert not Path(folder).exists()
    for secret in (PASSWORD, SUPERUSER, "CANARY"):
        assert secret not in json.dumps(samples)


def counted(samples: dict[str, float]) -> float:
    return sum(value for name, value in samples.items() if name.startswith("apictl_requests_total"))


def environment_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def ask(server: Server) -> int:
    """Ask for this and that, over many connections, and return how often."""
    for number in range(20):
        assert server.get(f"/v1/users/CANARY-{number}")[0] == 401
        assert server.get(f"/CANARY/{number}")[0] == 404
    form = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        assert client.post("/v1/auth/token", data=form).status_code == 200
        for change in ({"password": "CANARY"}, {"username": "CANARY@example.com"}, {"grant_type": "CANARY"}):
            assert client.post("/v1/auth/token", data=form | change).status_code == 400
    return 44


async def test_a_port_that_is_taken_or_the_server_s_own_is_named_first(
    apictl: Apictl, environment: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        own = environment | {"APICTL_METRICS_PORT": port}
        ended = await apictl("serve", "--port", "0", environment=own)
    assert (ended.code, f"Cannot listen on 127.0.0.1:{port}" in ended.err, "Serving" in ended.err) == (12, True, False)
    ended = await apictl("serve", "--port", port, environment=own | {"APICTL_METRICS_HOST": "127.0.0.2"})
    assert (ended.code, "which requests come to" in ended.err) == (12, True)


async def test_what_is_in_hand(runtime: Runtime, settings: Settings, database: asyncpg.Connection) -> None:
    for ago in (0, 90, 180):
        await database.execute(
            "INSERT INTO mails (id, kind, address, minute, created_at) "
            "VALUES (gen_random_uuid(), 'reset', 'a@example.com', $1, now() - make_interval(secs => $1::integer))",
            ago,
        )
    await database.execute("UPDATE mails SET due_at = now() + interval '1 hour', error = 'busy' WHERE minute = 90")
    await database.execute("UPDATE mails SET due_at = NULL, error = 'no such mailbox' WHERE minute = 180")
    metrics = Metrics(1, revision="abc", folder=None)
    async with metrics.kept(runtime, {"apictl_mails": NOT_SENT}), runtime.transaction() as session:
        await session.connection()
        # A loop that is held is told of: nobody else runs in the meantime.
        time.sleep(0.3)  # noqa: ASYNC251 - the blocking is what is under test
        await until_lag(metrics)
        async with asyncio.timeout(10):
            while not metrics._read:
                await asyncio.sleep(LOOK)
        samples = parsed(metrics.exposition())
    assert samples['apictl_pool_connections{pool="sessions",state="in_use"}'] == 1
    assert [samples[f'apictl_mails{{state="{state}"}}'] for state in ("late", "waiting", "given_up")] == [1, 1, 1]
    assert samples['apictl_pool_size{pool="sessions"}'] == settings.pool_size
    assert samples["apictl_loop_lag_max_seconds"] >= 0.15
    assert samples['apictl_loop_lag_seconds_bucket{le="0.1"}'] < samples["apictl_loop_lag_seconds_count"]


async def until_lag(metrics: Metrics) -> None:
    async with asyncio.timeout(10):
        while max(metrics._lags) < 0.15:
            await asyncio.sleep(LOOK)


def test_who_has_ended_still_counts_and_has_nothing_in_hand() -> None:
    together: dict[str, float] = {}
    one = {"apictl_requests_total{}": 3.0, "apictl_requests_in_flight": 2.0, GREATEST[0]: 5.0}
    add(together, one, is_alive=True)
    add(together, {name: 10 * value for name, value in one.items()}, is_alive=False)
    add(together, one | {GREATEST[0]: 4.0}, is_alive=True)
    assert together == {"apictl_requests_total{}": 36, "apictl_requests_in_flight": 4, GREATEST[0]: 5}


def names(expression: str) -> set[str]:
    """Return the metrics that a query names."""
    without = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:apictl|process)_[a-z_]+", without))


def known() -> set[str]:
    """Return every name that our exposition has a sample of."""
    histograms = {name for name, (kind, _) in FAMILIES.items() if kind == "histogram"}
    return {f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")} | set(FAMILIES) - histograms


def test_the_dashboard_and_the_alerts_name_what_there_is() -> None:
    dashboard: dict[str, Any] = json.loads((DEPLOY / "grafana/apictl.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))
    queries += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    used = set().union(*map(names, queries))
    assert used <= known()
    # Nothing is counted that nobody looks at.
    assert {family_of(name) for name in used} == set(FAMILIES)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(places) == len(set(places))
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert scraped["rule_files"] == ["alerts.yml"]


def selected(expression: str) -> set[tuple[str, str, str]]:
    """Return what a query selects: a metric, a label, and each value that it names; of a pattern, what that may be."""
    found = set()
    for metric, labels in re.findall(r"\b(apictl_[a-z_]+)\{([^}]*)\}", expression):
        for label, pattern in re.findall(r'([a-z_]+)=~?"([^"]*)"', labels):
            for value in pattern.split("|"):
                codes = {code for code in ApictlError.registry if re.fullmatch(value, code)}
                found |= {(metric, label, one) for one in (codes if "*" in value else {value})}
    return found


async def test_what_the_alerts_select_is_there_from_the_start(runtime: Runtime) -> None:
    """A series that begins at its first event has no increase, and `>` finds nothing beside one that is not there."""
    alerts = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))
    wanted = set().union(*(selected(rule["expr"]) for group in alerts["groups"] for rule in group["rules"]))
    assert ("apictl_failures_total", "code", "database-timeout") in wanted
    metrics = Metrics(1, revision="abc", folder=None)
    async with metrics.kept(runtime, {"apictl_mails": NOT_SENT}):
        async with asyncio.timeout(10):
            while not metrics._read:
                await asyncio.sleep(LOOK / 10)
        samples = parsed(metrics.exposition())
    assert not {one for one in wanted if not any(f'{one[1]}="{one[2]}"' in name for name in of(samples, one[0]))}
    # Together, too: how logins with a password end, and not how anything else does.
    for outcome in ("granted", "invalid-grant", "too-many-attempts"):
        assert samples[f'apictl_grants_total{{grant="password",outcome="{outcome}"}}'] == 0


def of(samples: dict[str, float], metric: str) -> list[str]:
    return [name for name in samples if name.startswith(metric + "{")]


def test_labels_cannot_be_broken() -> None:
    metrics = Metrics(1, revision="abc", folder=None)
    metrics.answered('X"\n', None, 404, 0.1)
    assert 'method="other",route="none"' in text_of(metrics.samples())
    parsed(metrics.exposition())
