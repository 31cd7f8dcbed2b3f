"""Who is compared: the limit, ours, and what people would pick instead; each with the same users."""

import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

import asyncpg
import jwt

from benchmarks.load import CannotMeasure, Request
from benchmarks.servers import PYTHON, apictl, asked, environment, free_port, running, uvicorn

PASSWORD: Final = "correct horse battery staple"
ADMIN: Final = "user1@example.com"
# So many users ask in turn: nobody's row is the only one that is warm.
ASKING: Final = 64
# So many sessions are rotated in turn; each load loses one for each connection, and a round has two to four loads.
ROTATING: Final = 2000
SEED: Final = """
INSERT INTO users (id, email, full_name, password_hash, created_at)
SELECT gen_random_uuid(), 'user' || n || '@example.com', 'User Number ' || n,
       (SELECT password_hash FROM users WHERE email = $2), now() - n * '1 s'::interval
FROM generate_series(2, $1::int) AS n
"""
# How PostgreSQL plans what every request asks depends on how many there are.
SESSIONS: Final = """
INSERT INTO sessions (id, user_id, expires_at) SELECT gen_random_uuid(), id, now() + '1 d'::interval FROM users
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """An application that runs, and what each workload asks of it."""

    name: str
    url: str
    requests: dict[str, Request]
    process: int
    # Before each round: access tokens do not last.
    renew: Callable[[], dict[str, Request]] = dict


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contender works: a database of its own, and a folder for what it says."""

    database_url: str
    folder: Path
    users: int

    def log(self, name: str) -> Path:
        """Return the file for what a process says."""
        return self.folder / f"{name}.log"


def done(line: list[str], place: Place, *, say: str = "", **variables: str) -> str:
    """Run a command to its end, and return what it printed.

    Raises:
        CannotMeasure: It failed.
    """
    ended = subprocess.run(  # noqa: S603
        line, cwd=place.folder, env=environment(**variables), input=say, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise CannotMeasure(f"{' '.join(line[:4])} failed", cause=ended.stderr[-2000:])
    return ended.stdout


async def seeded(place: Place, settings: dict[str, str]) -> None:
    """Make our schema, an administrator, and all the other users, each with a session."""
    done(apictl("migrate"), place, **settings)
    done(apictl("create-user", ADMIN, "--superuser", "--password-stdin"), place, say=PASSWORD, **settings)
    connection = await asyncpg.connect(place.database_url)
    await connection.execute(SEED, place.users, ADMIN, timeout=600)
    await connection.execute(SESSIONS, timeout=600)
    await connection.execute("VACUUM ANALYZE", timeout=600)
    await connection.close()


def ours_settings(place: Place) -> dict[str, str]:
    """Return the settings that a deployment has to make, and no others."""
    return {"APICTL_DATABASE_URL": place.database_url, "APICTL_SECRET_KEY": "only for measuring, on loopback: " * 2}


@contextmanager
def ours(place: Place, *, workers: int = 1) -> Iterator[Contender]:
    """`apictl serve`, as in production."""
    port = free_port()
    line = apictl("serve", "--port", str(port), "--workers", str(workers))
    with running(line, port, ready="/health/ready", log=place.log("apictl"), **ours_settings(place)) as (url, process):
        # Somebody else each time: of one account, few are let through at once.
        login = urlencode({"grant_type": "password", "password": PASSWORD}) + "&username=user{turn}%40example.com"
        refresh = urlencode({"grant_type": "refresh_token"}) + "&refresh_token={token}"
        form_type = "application/x-www-form-urlencoded"
        new = '{"email": "new{n}@example.com"}'

        def pages(headers: dict[str, str]) -> tuple[str, ...]:
            found = [""]
            for _ in range(ASKING - 1):
                following = asked("GET", f"{url}/v1/users?limit=50{found[-1]}", headers=headers)["next_cursor"]
                if following is None:
                    break
                found.append(f"&cursor={following}")
            # Not the last one: it may have no next page, and "next_cursor" is how an answer is known to be right.
            return tuple(found[: max(1, len(found) - 1)])

        def renew() -> dict[str, Request]:
            form = {"grant_type": "password", "username": ADMIN, "password": PASSWORD}
            admin = asked("POST", f"{url}/v1/auth/token", data=form)["access_token"]
            headers = {"Authorization": f"Bearer {admin}"}
            issued = [
                asked("POST", f"{url}/v1/tokens", 201, headers=headers, json={"user": f"user{number}@example.com"})
                for number in range(2, 2 + 2 * ASKING)
            ]
            tokens = tuple(one["access_token"] for one in issued)
            rotating = tuple(one["refresh_token"] for one in issued)
            return {
                "W1": Request("/v1/users/me", tokens=tokens, expect='"email":"user'),
                "W2": Request("/v1/users?limit=50", tokens=(admin,), expect='"next_cursor":"'),
                "W2p": Request("/v1/users?limit=50", tokens=(admin,), pages=pages(headers), expect='"next_cursor":"'),
                "W4h": Request("/v1/users", "POST", tokens=(admin,), body=new, status=201, expect='"email":"new'),
                "W5": Request(
                    "/v1/auth/token", "POST", body=refresh, content_type=form_type, rotating=rotating,
                    expect='"access_token":"',
                ),
            }  # fmt: skip

        yield Contender(
            "apictl",
            url,
            {
                "W3": Request("/v1/auth/token", "POST", body=login, content_type=form_type, expect='"access_token":"'),
                "W6": Request("/health/live", expect='{"status":"ok"}'),
            },
            process.pid,
            renew,
        )


async def limit_tokens(place: Place, secret: str) -> tuple[list[str], list[str], tuple[str, ...]]:
    """Make sessions as ours has them, and return access and refresh tokens for them; and where pages of users begin."""
    connection = await asyncpg.connect(place.database_url)
    users = [
        row["id"] for row in await connection.fetch("SELECT id FROM users WHERE email LIKE 'user%' LIMIT $1", ROTATING)
    ]
    sessions = [(uuid4(), user) for user in users]
    await connection.executemany(
        "INSERT INTO sessions (id, user_id, expires_at) VALUES ($1, $2, now() + '1 d'::interval)", sessions
    )
    ordered = await connection.fetch("SELECT created_at, id FROM users ORDER BY created_at, id LIMIT $1", 50 * ASKING)
    pages = ("", *(f"{row['created_at'].isoformat()},{row['id']}" for row in ordered[49:-1:50]))
    await connection.close()

    def sign(**claims: Any) -> str:
        return jwt.encode({"exp": 2**31, **claims}, secret, algorithm="HS256")

    access = [sign(sub=str(user)) for _, user in sessions[:ASKING]]
    return access, [sign(sid=str(session), rotation=0) for session, _ in sessions], pages


@contextmanager
def limit(
    place: Place, access: list[str], refresh: list[str], pages: tuple[str, ...], secret: str
) -> Iterator[Contender]:
    """L1: raw ASGI."""
    port = free_port()
    variables = {"BENCH_DATABASE_URL": place.database_url, "BENCH_SECRET": secret}
    line = uvicorn("benchmarks.limit:app", port)
    with running(line, port, ready="/plain", log=place.log("limit"), **variables) as (url, process):
        new = '{"email": "new{n}@example.com", "password_hash": "$argon2id$v=19$m=19456,t=2,p=1$x"}'
        yield Contender(
            "L1",
            url,
            {
                "W1": Request("/me", tokens=tuple(access), expect='"email":"user'),
                "W2": Request("/users", tokens=(access[0],), expect='"email":"user'),
                "W2p": Request("/users?", tokens=(access[0],), pages=pages, expect='"email":"user'),
                "W4h": Request("/users", "POST", tokens=(access[0],), body=new, status=201, expect='"email":"new'),
                "W5": Request(
                    "/refresh", "POST", body='{"refresh_token": "{token}"}', rotating=tuple(refresh),
                    expect='"access_token":"',
                ),
                "W6": Request("/plain", expect='{"status":"ok"}'),
            },
            process.pid,
        )  # fmt: skip


@contextmanager
def fastapi_users(place: Place) -> Iterator[Contender]:
    """FastAPI with fastapi-users, as its documentation has it."""
    variables = {"BENCH_DATABASE_URL": place.database_url}
    module = "benchmarks.peers.fastapi_users_app"
    done([str(PYTHON), "-m", module, "seed", str(place.users)], place, **variables)
    port = free_port()
    line = uvicorn(f"{module}:app", port)
    with running(line, port, ready="/plain", log=place.log("fastapi-users"), **variables) as (url, process):
        form = {"username": ADMIN, "password": PASSWORD}
        token = asked("POST", f"{url}/auth/jwt/login", data=form)["access_token"]
        yield Contender(
            "fastapi-users",
            url,
            {
                "W1": Request("/users/me", tokens=(token,), expect=f'"email":"{ADMIN}"'),
                "W2": Request("/users?limit=50", tokens=(token,), expect='"email":"user'),
                "W6": Request("/plain", expect='{"status":"ok"}'),
            },
            process.pid,
        )


@contextmanager
def django(place: Place) -> Iterator[Contender]:
    """Django with REST framework and SimpleJWT, behind gunicorn."""
    variables = {"BENCH_DATABASE_URL": place.database_url, "BENCH_SECRET": secrets.token_hex(32)}
    module = [str(PYTHON), "-m", "benchmarks.peers.django_peer"]
    done([*module, "seed", str(place.users)], place, **variables)
    rotating = tuple(done([*module, "tokens", str(ROTATING)], place, **variables).split())
    port = free_port()
    line = [
        str(PYTHON), "-m", "gunicorn", "benchmarks.peers.django_peer.wsgi", "--bind", f"127.0.0.1:{port}",
        "--workers", "1", "--worker-class", "gthread", "--threads", "8", "--no-control-socket",
        "--log-level", "warning",
    ]  # fmt: skip
    with running(line, port, ready="/plain", log=place.log("django"), **variables) as (url, process):
        form = {"username": ADMIN, "password": PASSWORD}

        def renew() -> dict[str, Request]:
            token = asked("POST", f"{url}/token", json=form)["access"]
            return {
                "W1": Request("/me", tokens=(token,), expect=f'"{ADMIN}"'),
                "W2": Request("/users", tokens=(token,), expect=f'"{ADMIN}"'),
            }

        yield Contender(
            "Django + DRF",
            url,
            {
                "W5": Request(
                    "/token/refresh", "POST", body='{"refresh": "{token}"}', rotating=rotating, expect='"access"'
                ),
                "W6": Request("/plain", expect='"status"'),
            },
            process.pid,
            renew,
        )  # fmt: skip
