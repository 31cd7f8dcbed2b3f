"""Scenarios: a server is told to stop, is killed, or has more to do than it can."""

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.servers import free_port
from faults.balancer import HAPROXY, balanced
from faults.clients import CUT, Client, Load, loaded
from faults.report import Seen
from faults.world import Server, World


async def exhausted(place: World) -> list[Seen]:
    """Ten times as many requests as there are connections wait for a lock that somebody holds for a while."""
    async with place.server() as server, place.database() as database:
        clients = [Client(server.port, place.key) for _ in range(100)]
        probe = Client(server.port, place.key)
        await probe.ask("POST", "/v1/users", {"email": "wanted@example.com"})
        transaction = database.transaction()
        await transaction.start()
        await database.execute("LOCK users IN SHARE MODE")
        asked = [
            asyncio.create_task(one.ask("PATCH", "/v1/users/wanted@example.com", {"full_name": "x"})) for one in clients
        ]
        health = []
        for _ in range(16):
            health.append(await probe.ask("GET", "/health/ready"))
            await asyncio.sleep(0.15)
        await transaction.rollback()
        answers = await asyncio.gather(*asked)
    good = sum(one.status == 200 for one in answers)
    refused = [one for one in answers if one.status == 503 and "retry-after" in one.headers]
    slowest = max(one.seconds for one in health)
    return [
        Seen(
            "10 times as many requests as connections hold them",
            "those that get none are answered 503 with Retry-After, and ready 200 all the time",
            f"{Load(answers).shown}; ready {slowest * 1000:.0f} ms at most",
            good + len(refused) == 100 and good >= 10 and {one.status for one in health} == {200},
        )
    ]


async def restarted(place: World) -> list[Seen]:
    """A server is told to stop under load, and another one started on its port, again and again."""
    seen, rounds, codes = [], 1 if place.short else 8, set()
    for workers in (1,) if place.short else (1, 2):
        port = free_port()
        async with AsyncExitStack() as stack:
            load = await stack.enter_async_context(loaded(port, place.key, clients=16, name=f"restarted-{workers}"))
            for _ in range(rounds):
                async with place.server(port=port, workers=workers, APICTL_DRAIN_TIMEOUT="1") as server:
                    await asyncio.sleep(1)
                    codes.add(await server.end(signal.SIGTERM))
            async with place.server(port=port, workers=workers):
                await asyncio.sleep(0.5)
                await stack.aclose()
        failed = [one for one in load.answers if one.status not in {200, 201}]
        seen.append(
            Seen(
                f"SIGTERM under load, {rounds} times, {workers} worker{'s' if workers > 1 else ''}",
                "no request fails that was let in",
                f"{len(load.answers)} requests, {len(failed)} failed",
                not failed and codes == {128 + signal.SIGTERM},
            )
        )
    return seen


async def rolled(place: World) -> list[Seen]:
    """Three servers behind HAProxy, under load; one after the other is told to stop, and started again."""
    rounds, seconds = (1, 2.0) if place.short else (6, 10.0)
    fault = f"one of three servers behind HAProxy is told to stop, {rounds} times, every {seconds:.0f} s"
    must = "no request fails"
    if HAPROXY is None:
        return [Seen(fault, must, "HAProxy is not installed", None)]
    ports, codes = [free_port() for _ in range(3)], set()
    async with AsyncExitStack() as stack, AsyncExitStack() as clients:
        begun = [AsyncExitStack() for _ in ports]
        for one in begun:
            stack.push_async_callback(one.aclose)
        servers = [
            await one.enter_async_context(place.server(port=port, APICTL_DRAIN_TIMEOUT="1"))
            for one, port in zip(begun, ports, strict=True)
        ]
        port = await stack.enter_async_context(balanced(ports, place.folder))
        load = await clients.enter_async_context(loaded(port, place.key, clients=16, name="rolled"))
        for number in range(rounds):
            began, which = time.monotonic(), number % 3
            await asyncio.sleep(0.5)
            codes.add(await servers[which].end(signal.SIGTERM))
            await begun[which].aclose()
            servers[which] = await begun[which].enter_async_context(
                place.server(port=ports[which], APICTL_DRAIN_TIMEOUT="1")
            )
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        await clients.aclose()
    failed = [one for one in load.answers if one.status not in {200, 201}]
    lost, twice = await place.missing(load.users)
    return [
        Seen(
            fault,
            must,
            f"{len(load.answers)} requests, {len(failed)} failed",
            not failed and not lost and not twice and codes == {128 + signal.SIGTERM},
        )
    ]


async def worker_killed(place: World) -> list[Seen]:
    """One of two workers is killed by SIGKILL under load, and another one takes its place."""
    rounds, lost, twice, users = 1 if place.short else 5, 0, 0, 0
    cut = 0
    async with place.server(workers=2) as server:
        for number in range(rounds):
            async with loaded(server.port, place.key, clients=16, name=f"worker-{number}") as load:
                await two_workers(server)
                await asyncio.sleep(1)
                os.kill(children(server.process.pid)[-1], signal.SIGKILL)
                await asyncio.sleep(1 if place.short else 3)
            cut += load.statuses[CUT]
            gone, more = await place.missing(load.users)
            lost, twice, users = lost + gone, twice + more, users + len(load.users)
        workers = await two_workers(server)
    return [
        Seen(
            f"one of two workers is killed under load, {rounds} times",
            "what was acknowledged is there, once; at most its own requests are cut off; there are two again",
            f"{users} acknowledged, {lost} lost, {twice} twice; {cut} cut off; {workers} workers",
            not lost and not twice and cut <= rounds * 16 and workers == 2,
        )
    ]


async def server_killed(place: World) -> list[Seen]:
    """A server is killed by SIGKILL under load, and another one started on its port."""
    rounds, port, gaps = 1 if place.short else 4, free_port(), []
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(loaded(port, place.key, clients=16, name="server"))
        for _ in range(rounds):
            async with place.server(port=port) as server:
                await asyncio.sleep(1)
                await server.end(signal.SIGKILL)
            at = time.monotonic()
            async with place.server(port=port):
                await asyncio.sleep(0.5)
            gaps.append(load.first_good(at))
        async with place.server(port=port):
            await stack.aclose()
    lost, twice = await place.missing(load.users)
    cut = load.statuses[CUT]
    return [
        Seen(
            f"a server is killed under load, {2 * rounds} times",
            "what was acknowledged is there, once; no 500; good again within 5 s of the next start",
            f"{len(load.users)} acknowledged, {lost} lost, {twice} twice; {cut} cut off; good again {max(gaps):.1f} s "
            "after another one was started",
            not lost and not twice and max(gaps) < 5 and {*load.statuses} <= {200, 201, CUT},
        )
    ]


async def two_workers(server: Server) -> int:
    """Return how many workers there are, as soon as there are two: a new one takes a moment."""
    until = time.monotonic() + 10
    while (number := len(children(server.process.pid))) < 2 and time.monotonic() < until:  # noqa: ASYNC110 - another process's
        await asyncio.sleep(0.05)
    return number


def children(pid: int) -> list[int]:
    """Return the workers of a server: its children that serve, and no helper of Python's."""
    found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return [one for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
