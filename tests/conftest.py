"""Fixtures that every test may ask for: a database of its own, the application on it, and both doors."""

import asyncio
import gc
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from uuid import UUID

import asyncpg
import httpx2
import pytest
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from passlib.context import CryptContext
from pydantic import SecretStr

from api.config import Settings
from api.core import hashes
from api.core.runtime import Runtime
from api.main import create_app
from api.postgres.cluster import dying_with_parent
from api.signing_keys.ring import fresh
from api.tokens import crud as tokens
from api.tokens.keys import Keys
from api.users.models import User
from tests.support import postgres
from tests.support.doors import CliDoor, Door, HttpDoor
from tests.support.processes import Apictl, bare_environment

ROOT = Path(__file__).parent.parent
SUPERUSER = "root@example.com"
SUPERUSER_ID = UUID("01900000-0000-7000-8000-000000000001")
PASSWORD = "correct horse battery staple"
CHEAP = CryptContext(
    schemes=["argon2"],
    **hashes.ARGON2 | {"argon2__time_cost": 1, "argon2__memory_cost": 8},
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder that all processes of this run share, once, before the others start.

    Not below pytest's own: nobody but its owner can enter that, and as root PostgreSQL runs under another account.
    """
    # What is read before a test begins must not come from the machine either.
    for name in set(os.environ) - {*bare_environment(), postgres.SERVER_VARIABLE, "APICTL_TESTS"}:
        if name not in {"APICTL_STATE_DIR", "APICTL_TEST_THOROUGH", "APICTL_FUZZ_REQUESTS", "APICTL_FUZZ_COUNT"}:
            del os.environ[name]
    postgres.compile_once()
    if not hasattr(config, "workerinput"):
        folder = Path(mkdtemp(prefix="apictl-tests-", dir=memory()))
        folder.chmod(0o755)
        (folder / postgres.SECRET_KEY).write_text(secrets.token_hex(32), encoding="ascii")
        os.environ["APICTL_TESTS"] = str(folder)
        os.environ["APICTL_STATE_DIR"] = str(folder / "state")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: at the end, one process would go on alone, and the others have nothing to do."""
    items.sort(key=lambda item: not item.nodeid.startswith(("tests/test_readme", "tests/api/test_contract")))


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what was imported: it would look at a million things now and then."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def memory() -> str | None:
    """Return a file system in memory with room for the run: there a database is copied ten times as fast."""
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108 - mkdtemp makes the names
    except OSError:
        return None
    roomy = found.f_bavail * found.f_frsize >= 2 << 30 and not found.f_flag & os.ST_NOEXEC
    return "/dev/shm" if roomy else None  # noqa: S108


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder, when every server in it has stopped."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop("APICTL_TESTS"))
        del os.environ["APICTL_STATE_DIR"]


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's own settings, .env and data folder out of every test."""
    kept = {*bare_environment(), postgres.SERVER_VARIABLE, "APICTL_TESTS"}
    for name in set(os.environ) - kept:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that all processes of this run share."""
    return Path(os.environ["APICTL_TESTS"])


@pytest.fixture(scope="session")
def server_url(shared: Path) -> Iterator[str]:
    """The suite's own PostgreSQL."""
    with postgres.server(shared) as url:
        yield url


@pytest.fixture(scope="session")
def template(server_url: str, shared: Path) -> str:
    """The migrated database that every test's is a copy of."""
    return asyncio.run(postgres.template(server_url, shared))


@pytest.fixture(scope="session")
def template_with_superuser(server_url: str, shared: Path, password_hash: str) -> str:
    """The same with a superuser in it, so that not every test has to make one."""
    superuser = (SUPERUSER_ID, SUPERUSER, password_hash)
    return asyncio.run(postgres.template(server_url, shared, superuser=superuser))


@pytest.fixture
async def database_url(
    request: pytest.FixtureRequest, server_url: str, template: str, template_with_superuser: str
) -> AsyncIterator[str]:
    """A migrated database for this test alone; with a superuser in it, if the test asks for one."""
    wanted = template_with_superuser if {"superuser", "door"} & set(request.fixturenames) else template
    async with postgres.database(server_url, copy_of=wanted) as url:
        yield url


@pytest.fixture
async def empty_url(server_url: str) -> AsyncIterator[str]:
    """An empty database for this test alone."""
    async with postgres.database(server_url, copy_of=None) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own: what it sees is committed."""
    async with postgres.connected(database_url) as connection:
        yield connection


@pytest.fixture(scope="session")
def secret_key(shared: Path) -> SecretStr:
    """The secret key of this run, with which the template's signing key is sealed."""
    return SecretStr((shared / postgres.SECRET_KEY).read_text(encoding="ascii"))


@pytest.fixture
def settings(database_url: str, secret_key: SecretStr, tmp_path: Path) -> Settings:
    """Settings for this test's database."""
    return Settings(
        database_url=SecretStr(database_url),
        secret_key=secret_key,
        home=tmp_path / ".apictl",
        registration="open",
        # Mails are queued, and sent when a test says so.
        smtp_url=SecretStr("file:mail"),
        work_in_serve=False,
    )


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """The environment of a process that works on this test's database."""
    assert settings.database_url is not None
    assert settings.secret_key is not None
    return bare_environment(
        APICTL_DATABASE_URL=settings.database_url.get_secret_value(),
        APICTL_SECRET_KEY=settings.secret_key.get_secret_value(),
        APICTL_REGISTRATION="open",
        APICTL_SMTP_URL="file:mail",
        APICTL_WORK_IN_SERVE="false",
    )


@pytest.fixture
async def runtime(settings: Settings) -> AsyncIterator[Runtime]:
    """The resources of a process."""
    async with Runtime.open(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def application() -> FastAPI:
    """The application, not started. FastAPI works out what a route needs when it is first asked; that takes time."""
    return create_app(Settings(secret_key=SecretStr(secrets.token_hex(32))), announce=False)


@pytest.fixture
async def app(application: FastAPI, settings: Settings) -> AsyncIterator[FastAPI]:
    """The application, started for this test, with its settings and keys."""
    application.state.settings = settings
    application.state.keys = Keys.load(settings)
    async with LifespanManager(application):
        yield application
    assert application.dependency_overrides == {}


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without credentials; a bug in the application is a 500 to it, as to everybody."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as opened:
        yield opened


@pytest.fixture(autouse=True)
def cheap_passwords(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash for a thousandth of the price in this process, unless the test asks for `dear_passwords`."""
    if "dear_passwords" not in request.fixturenames:
        monkeypatch.setattr(hashes, "CONTEXT", CHEAP)
        monkeypatch.setattr(hashes, "DUMMY_HASH", re.sub("m=.*?,t=.*?,", "m=8,t=1,", hashes.DUMMY_HASH))


@pytest.fixture
def dear_passwords() -> None:
    """Hash at the price that is paid in production."""


@pytest.fixture(scope="session")
def password_hash() -> str:
    """The hash of PASSWORD, made once."""
    hashed: str = CHEAP.hash(PASSWORD)
    return hashed


@pytest.fixture
def superuser(database_url: str) -> User:
    """The first superuser, who is in this test's database already."""
    return User(id=SUPERUSER_ID, email=SUPERUSER)


async def log_in(client: httpx2.AsyncClient, email: str, password: str = PASSWORD) -> dict[str, str]:
    """Return the answer of the token endpoint."""
    form = {"grant_type": "password", "username": email, "password": password}
    response = await client.post("/v1/auth/token", data=form)
    assert response.status_code == 200, response.text
    tokens: dict[str, str] = response.json()
    return tokens


async def signed_in(app: FastAPI, user_id: UUID) -> tuple[str, UUID]:
    """Return an access token of a new session, and the session's id, without the hash that logging in would cost."""
    async with app.state.runtime.transaction() as session:
        row = await tokens.add(session, user_id=user_id, ttl=3600)
    keys = await fresh(app.state.keys, app.state.runtime)
    token = keys.sign(user_id=user_id, session_id=row.id, ttl=900)
    return token, row.id


@pytest.fixture
async def admin(app: FastAPI, superuser: User) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a superuser's access token."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {(await signed_in(app, superuser.id))[0]}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver", headers=headers) as opened:
        yield opened


@pytest.fixture
async def as_ada(app: FastAPI, admin: httpx2.AsyncClient) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with the access token of a plain user, ada@example.com, who has no role and no password."""
    user = (await admin.post("/v1/users", json={"email": "ada@example.com"})).json()
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {(await signed_in(app, UUID(user['id'])))[0]}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver", headers=headers) as opened:
        yield opened


@pytest.fixture
async def http_door(app: FastAPI, client: httpx2.AsyncClient, superuser: User) -> HttpDoor:
    """The HTTP door, opened by a superuser."""
    return HttpDoor(client, (await signed_in(app, superuser.id))[0])


@pytest.fixture(scope="session")
def apictl(server_url: str, template_with_superuser: str) -> Iterator[Apictl]:
    """The command, ready to run."""
    # A database of its own: nobody may be connected to a template while it is copied.
    database = postgres.database(server_url, copy_of=template_with_superuser)
    with asyncio.Runner() as runner, TemporaryDirectory(prefix="apictl-tests-") as folder:
        warmed_up_on = runner.run(database.__aenter__())
        address = f"{folder}/socket"
        command = [sys.executable, "-m", "tests.support.warm", address, warmed_up_on]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=bare_environment(),
            preexec_fn=dying_with_parent(signal.SIGTERM),  # noqa: PLW1509 - no other thread holds a lock that this needs
        ) as process:
            deadline = time.monotonic() + 60
            while not Path(address).exists():
                assert process.poll() is None, "the warm process ended"
                assert time.monotonic() < deadline, "the warm process did not start"
                time.sleep(0.02)
            yield Apictl(address)
            process.terminate()
        runner.run(database.__aexit__(None, None, None))


@pytest.fixture
def cli_door(apictl: Apictl, environment: dict[str, str], superuser: User) -> CliDoor:
    """The terminal door, opened by an operator; the superuser is there as well, so that both worlds are the same."""
    return CliDoor(apictl, environment)


@pytest.fixture(params=["http", "cli"])
def door(request: pytest.FixtureRequest) -> Door:
    """Each door in turn."""
    opened: Door = request.getfixturevalue(f"{request.param}_door")
    return opened
