"""Scenarios: the database, or the way to it, fails."""

import asyncio
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from faults.clients import CUT, HUNG, Answer, Client, loaded
from faults.proxy import before_database
from faults.report import Seen
from faults.world import World, world

# Seconds: APICTL_REQUEST_TIMEOUT, and what a client measures more than the server.
IN_TIME: Final = 8.1
DISK_MIB: Final = 128


async def hung(place: World) -> list[Seen]:
    """The network between server and database falls silent, under connections that there are, and comes back."""
    seen: list[Seen] = []
    # How it ends, and in how many seconds all must be good again: what is silent for ever is found out by a statement.
    ends = {"it goes on": 1.0, "its connections are cut": 1.0, "its connections stay silent for ever": 4.5}
    for how, most in [*ends.items()][: 1 if place.short else None]:
        seconds = 3 if place.short else 10
        async with before_database(place.url) as (proxy, url), place.server(url) as server:
            live, ready = Client(server.port, place.key), Client(server.port, place.key)
            probes: list[tuple[Answer, Answer]] = []
            async with loaded(server.port, place.key, clients=20, name=f"hung-{len(seen)}") as load:
                await asyncio.sleep(1)
                proxy.hang()
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    probes.append((await live.ask("GET", "/health/live"), await ready.ask("GET", "/health/ready")))
                if "cut" in how:
                    proxy.cut()
                proxy.heal(forgetful="silent" in how)
                healed = time.monotonic()
                await asyncio.sleep(most + 1)
            first, last = load.first_good(healed), load.last_bad(healed)
            slow_live = max(one.seconds for one, _ in probes)
            slow_ready = max(one.seconds for _, one in probes)
            told = all("retry-after" in one.headers for one in load.answers if one.status >= 500)
            seen.append(
                Seen(
                    f"the database hangs for {seconds} s, then {how}",
                    f"every request ends within 8 s with 503 or 504 and Retry-After, good again in {most:g} s; live "
                    "at once, ready 503 in 1 s",
                    f"{load.shown}; the slowest {load.slowest:.1f} s; good again after {first:.2f} s, the last failure "
                    f"{last:.2f} s; live {slow_live * 1000:.0f} ms, ready {slow_ready:.1f} s",
                    load.slowest < IN_TIME
                    and {*load.statuses} <= {200, 201, 503, 504}
                    and told
                    and max(first, last) < most
                    and slow_live < 0.25
                    and slow_ready < 1.3
                    and {one.status for one, _ in probes} == {200}
                    and {one.status for _, one in probes[1:]} == {503},
                )
            )
    return seen


async def flaky(place: World) -> list[Seen]:
    """The network between server and database is slow, then cuts connections again and again, one way or both."""
    seconds = 1 if place.short else 4
    async with (
        before_database(place.url) as (proxy, url),
        place.server(url) as server,
        loaded(server.port, place.key, clients=16, name="flaky") as load,
    ):
        proxy.delay = 0.02
        await asyncio.sleep(seconds)
        proxy.delay, proxy.cut_after = 0, 20_000
        slow = load.last_bad(0)
        await asyncio.sleep(seconds)
        proxy.cut_after = None
        for _ in range(10):
            proxy.half_close()
            await asyncio.sleep(seconds / 10)
        healed = time.monotonic()
        await asyncio.sleep(1.5)
    lost, twice = await place.missing(load.users)
    last = load.last_bad(healed)
    return [
        Seen(
            "the network is slow; then it cuts connections, one way or both",
            "slow is no failure; then 503 or 504 only, what was acknowledged is there, once; good again within 1 s",
            f"{load.shown}; {proxy.cuts} cuts; {len(load.users)} acknowledged, {lost} lost, {twice} twice; the last "
            f"failure after {last:.2f} s",
            not slow and not lost and not twice and {*load.statuses} <= {200, 201, 503, 504} and last < 1,
        )
    ]


async def silent_commits(place: World) -> list[Seen]:
    """The connection is cut between a commit and its answer."""
    number = 10 if place.short else 100
    async with before_database(place.url) as (proxy, url), place.server(url) as server:
        client = Client(server.port, place.key)
        made = await client.ask("POST", "/v1/users", {"email": "committed@example.com"})
        proxy.cut_at = b"COMMIT"
        answers = [
            await client.ask("PATCH", "/v1/users/committed@example.com", {"full_name": str(count)})
            for count in range(number)
        ]
        proxy.cut_at = None
        async with place.database() as database:
            version = await database.fetchval("SELECT version FROM users WHERE email = 'committed@example.com'")
    codes = {one.code for one in answers}
    return [
        Seen(
            f"a commit's answer is lost, {number} times",
            "each is done once, and its answer says that nobody knows",
            f"{version - 1} done; {', '.join(sorted(codes))}",
            (made.status, version - 1, codes) == (201, number, {"outcome-unknown"}),
        )
    ]


async def sent_again(place: World) -> list[Seen]:
    """The connection is cut between a commit and its answer, and the client sends it again, under the same key."""
    number, again = 20 if place.short else 500, []
    async with before_database(place.url) as (proxy, url), place.server(url) as server:
        client = Client(server.port, place.key)
        await client.ask("POST", "/v1/users", {"email": "again@example.com"})
        for count in range(number):
            asked = ("PATCH", "/v1/users/again@example.com", {"full_name": str(count)})
            proxy.cut_at = b"COMMIT"
            first = await client.ask(*asked, once=f"make-faults-{count:06}")
            proxy.cut_at = None
            second = await client.ask(*asked, once=f"make-faults-{count:06}")
            again.append((first.code, second.status, second.headers.get("idempotency-replayed")))
        async with place.database() as database:
            version = await database.fetchval("SELECT version FROM users WHERE email = 'again@example.com'")
    replayed = again.count(("outcome-unknown", 200, "true"))
    return [
        Seen(
            f"a commit's answer is lost, {number} times, and the request is sent again with its Idempotency-Key",
            "each is done once, and answered",
            f"{version - 1} done; {replayed} answered as it was done",
            (version - 1, replayed) == (number, number),
        )
    ]


async def read_only(place: World) -> list[Seen]:
    """The database takes no writes, as a standby does; then it takes them again."""
    async with place.server() as server, place.database() as database:
        client = Client(server.port, place.key)

        async def both(name: str) -> tuple[int, int]:
            read = await client.ask("GET", "/v1/users?limit=1")
            write = await client.ask("POST", "/v1/users", {"email": f"{name}@example.com"})
            return read.status, write.status

        async def switch(how: str) -> None:
            name = await database.fetchval("SELECT current_database()")
            await database.execute(f'ALTER DATABASE "{name}" {how}')
            await database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()",
                name,
            )

        # Not even its use is to be noted, which is once a minute.
        await database.execute("UPDATE api_keys SET last_used_at = NULL")
        await switch("SET default_transaction_read_only = on")
        # The first ones find out that their connections have ended.
        for _ in range(3):
            await both("never")
        during = await both("never")
        await switch("RESET default_transaction_read_only")
        healed = time.monotonic()
        while (after := await both(f"read-only-{time.monotonic_ns()}")) != (200, 201) and time.monotonic() < healed + 5:
            pass
        seconds = time.monotonic() - healed
        never, _ = await place.missing({"never@example.com"})
    return [
        Seen(
            "the database is read-only",
            "reads 200, writes 503, nothing of them there; good again within 1 s",
            f"reads {during[0]}, writes {during[1]}; good again after {seconds:.2f} s",
            during == (200, 503) and after == (200, 201) and seconds < 1 and never == 1,
        )
    ]


async def killed(place: World) -> list[Seen]:
    """PostgreSQL is killed by SIGKILL under load, and its keeper starts it again."""
    # Four times in a minute, and the keeper gives up.
    rounds, gaps, lost, twice, users = 1 if place.short else 3, [], 0, 0, 0
    shown = []
    async with place.server(workers=1) as server:
        for number in range(rounds):
            async with loaded(server.port, place.key, clients=16, name=f"killed-{number}") as load:
                await asyncio.sleep(1)
                os.kill(place.postmaster, signal.SIGKILL)
                at = time.monotonic()
                await asyncio.sleep(3 if place.short else 6)
            gaps.append(load.last_bad(at))
            shown.append(load)
            gone, more = await place.missing(load.users)
            lost, twice, users = lost + gone, twice + more, users + len(load.users)
    statuses = set().union(*(load.statuses for load in shown))
    return [
        Seen(
            f"PostgreSQL is killed under load, {rounds} times",
            "what was acknowledged is there, once; no 500; good again within seconds, without a restart",
            f"{users} acknowledged, {lost} lost, {twice} twice; the last failure after {max(gaps):.1f} s",
            not lost and not twice and statuses <= {200, 201, 503, 504} and max(gaps) < 5,
        )
    ]


async def disk_full(place: World) -> list[Seen]:
    """The disk of the database is full, and then has room again."""
    fault, must = "the database's disk is full", "writes 503, nothing of them there, reads 200; good again within 5 s"
    disk = place.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=755", "tmpfs", str(disk)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)  # noqa: ASYNC221, S603 - at once
    if tried.returncode:
        return [Seen(fault, must, f"no small disk can be made here: {tried.stderr.strip()[:80]}", None)]
    try:
        with world(place.folder, short=place.short, home=disk / "pg") as small:
            return [await fill(small, disk, fault, must)]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)  # noqa: ASYNC221, S603, S607 - as above


async def fill(place: World, disk: Path, fault: str, must: str) -> Seen:
    """Fill the disk under load, make room again, and tell what was seen."""
    async with place.server() as server:
        filler = disk / "filler"
        async with loaded(server.port, place.key, clients=8, name="disk") as load:
            await asyncio.sleep(0.5)
            with filler.open("wb") as file, suppress(OSError):
                # By pieces: others take some of it meanwhile.
                for piece in range(DISK_MIB * 16):
                    os.posix_fallocate(file.fileno(), piece << 16, 1 << 16)
            full = time.monotonic()
            await asyncio.sleep(2 if place.short else 10)
            refused = sum(one.status == 503 for one in load.answers if one.at > full)
            filler.unlink()
            freed = time.monotonic()
            await asyncio.sleep(2 if place.short else 6)
        gone, more = await place.missing(load.users)
        there = len(load.refused) - (await place.missing(load.refused))[0]
    last = load.last_bad(freed)
    return Seen(
        fault,
        must,
        f"{load.shown}; {refused} writes refused, {there} of them there; {len(load.users)} acknowledged, {gone} lost; "
        f"the last failure {last:.1f} s after there was room",
        not gone
        and not more
        and not there
        and refused > 0
        and {*load.statuses} <= {200, 201, 503, 504} - {CUT, HUNG}
        and last < 5,
    )
