"""The commands that serve, as processes on real sockets: what they refuse, what they print, how they end."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

import asyncpg
import httpx2
import pytest

from api.config import Settings
from api.core.errors import BadSettings
from api.core.secret_key import refuse_weak
from api.core.stopping import turn_away
from api.postgres.layout import locate
from api.urls import is_server_url
from api.users.models import User
from cli.call import Call
from cli.serving import listen
from tests.conftest import PASSWORD, SUPERUSER
from tests.postgres.machine import processes, until
from tests.support.cases import THOROUGH
from tests.support.postgres import somebody_waits
from tests.support.processes import APICTL, Apictl, bare_environment
from tests.support.server import resident, serving


@pytest.mark.parametrize(
    "key",
    [
        "",
        "hunter2hunter2",
        "a" * 64,
        "abababababababababababababababababababab",
        "0123456789changethis-0123456789abcdef",
    ],
)
async def test_a_weak_secret_does_not_open_a_port(apictl: Apictl, environment: dict[str, str], key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        # The port is taken: had it been tried first, that would be the error.
        ended = await apictl("serve", "--port", port, environment=environment | {"APICTL_SECRET_KEY": key})
    assert ended.code == 12
    assert "secret key" in ended.err
    assert "openssl rand -hex 32" in ended.err
    assert not key or key not in ended.out + ended.err


@pytest.mark.parametrize(
    "sample",
    [
        "changeme", "changethis", "change-me", "change-this", "your-secret", "your_secret", "supersecret",
        "not-so-secret", "insecure", "password", "example", "09d25e094faa6ca2556c818166b7a956", "ChangeMe", "PASSWORD",
    ],
)  # fmt: skip
def test_every_well_known_sample_is_refused(sample: str) -> None:
    """However long and varied the rest of it is."""
    random = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    refuse_weak(random + random, source="x")
    with pytest.raises(BadSettings, match="too weak"):
        refuse_weak(random + sample + random, source="x")


async def test_a_secret_file_that_others_can_read_is_refused(
    apictl: Apictl, environment: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret_key").write_text("0123456789abcdef" * 4)
    (home / "secret_key").chmod(0o644)
    del environment["APICTL_SECRET_KEY"]
    ended = await apictl("serve", environment=environment | {"APICTL_HOME": str(home)})
    assert (ended.code, "Others can read" in ended.err) == (12, True)
    # One that is gone is to come back: a new one opens nothing of what is there.
    (home / "secret_key").unlink()
    ended = await apictl("serve", environment=environment | {"APICTL_HOME": str(home)})
    assert (ended.code, f"there is no {home / 'secret_key'}" in ended.err) == (12, True)
    assert "hint: bring back the one that was there; only where there is no database yet" in ended.err


async def test_a_taken_port_and_a_wrong_address_are_named(apictl: Apictl, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = await apictl("serve", "--port", port, environment=environment)
    assert (ended.code, f"127.0.0.1:{port}" in ended.err, "--port" in ended.err) == (12, True, True)
    assert (await apictl("serve", "--host", "192.0.2.1", environment=environment)).code == 12
    assert (await apictl("serve", "--host", "no such host", environment=environment)).code == 12


async def test_a_database_that_is_behind_is_not_served(
    apictl: Apictl, environment: dict[str, str], empty_url: str
) -> None:
    ended = await apictl("serve", environment=environment | {"APICTL_DATABASE_URL": empty_url})
    assert (ended.code, "apictl migrate" in ended.err) == (11, True)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", 7),
        ("postgresql://nobody@no.such.host.invalid/none", 7),
        ("postgresql:///none?host=/no/such/folder", 7),
        ("mysql://root@localhost/app", 12),
        ("nonsense", 12),
        ("postgresql://u:p@[::1/app", 12),
        ("postgresql://u:p@localhost:port/app", 12),
        ("postgresql://u:p@localhost/app?sslmode=sometimes", 12),
    ],
)
async def test_an_unusable_url_is_one_clear_error(
    apictl: Apictl, environment: dict[str, str], url: str, code: int
) -> None:
    for line in (
        ["list-users"],
        ["serve", "--port", "0"],
        ["migrate"],
        ["create-user", "a@example.com", "--no-password"],
    ):
        ended = await apictl(*line, environment=environment | {"APICTL_DATABASE_URL": url})
        assert (ended.code, ended.out) == (code, ""), (line, ended)
        assert ended.err.startswith("error: ")
        assert "Traceback" not in ended.err
        assert "u:p@" not in ended.err


async def test_the_error_about_a_url_repeats_nothing_of_its_password(
    apictl: Apictl, environment: dict[str, str]
) -> None:
    for url in (
        "postgresql://u:hunter2/x@127.0.0.1:5432/db",
        "postgresql://u:hunter2#x@h/db",
        "postgresql://u:hunter2?x@h/",
    ):
        ended = await apictl("list-users", environment=environment | {"APICTL_DATABASE_URL": url})
        assert ended.code in {7, 12}
        assert "hunter2" not in ended.err


async def test_an_env_file_that_anybody_can_write_is_refused(
    apictl: Apictl, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("APICTL_LOG_LEVEL=debug\n")
    assert (await apictl("list-users", environment=environment)).code == 0
    (tmp_path / ".env").chmod(0o666)
    ended = await apictl("list-users", environment=environment)
    assert (ended.code, "somebody else" in ended.err) == (12, True)
    if os.geteuid() == 0:
        (tmp_path / ".env").chmod(0o644)
        os.chown(tmp_path / ".env", 65534, 65534)
        assert (await apictl("list-users", environment=environment)).code == 12


def test_nothing_in_the_current_folder_is_run(environment: dict[str, str], tmp_path: Path) -> None:
    """A folder can be anybody's: modules in it that have the names of the library's are not ours to import."""
    for name in ("multiprocessing", "uvicorn", "typer", "api", "cli"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("open('planted', 'w').close()\n")
    with serving("serve", "--workers", "2", environment=environment, cwd=tmp_path) as server:
        assert server.get("/health/ready")[0] == 200
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("presses", [1, 2, 3])
def test_ctrl_c_again_and_again_ends_it_quietly(apictl: Apictl, environment: dict[str, str], presses: int) -> None:
    with serving("serve", environment=environment, start=apictl.start) as server:
        server.get("/health/ready")
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as half:
            # A request that never ends, for which the server waits, but not for ever.
            half.sendall(b"POST /v1/auth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
            for _ in range(presses):
                server.process.send_signal(signal.SIGINT)
                server.wait_for("Shutting down")
            if presses == 1:
                half.close()
            assert server.process.wait(timeout=30) == 130
        assert "Traceback" not in server.printed


# `apictl`, which is told to stop a moment before uvicorn listens to signals.
TOLD: Final = """
import os, signal, uvicorn
serve = uvicorn.Server.serve
uvicorn.Server.serve = lambda self, sockets=None: (os.kill(os.getpid(), signal.SIGTERM), serve(self, sockets))[1]
from cli.start import run
run()
"""


def test_told_to_stop_while_it_starts(environment: dict[str, str]) -> None:
    line = [sys.executable, "-c", TOLD, "serve", "--port", "0"]
    ended = subprocess.run(line, env=environment, capture_output=True, timeout=20, check=False)
    assert ended.returncode == 143, ended.stderr


async def test_wrong_credentials_and_a_missing_database_are_configuration(
    apictl: Apictl, environment: dict[str, str], server_url: str
) -> None:
    missing = re.sub(r"/[^/?]*(\?|$)", r"/no_such_database\1", server_url, count=1) if "?" not in server_url else None
    urls = [re.sub(r":[^:@/]+@", ":wrong-password@", server_url)] + ([missing] if missing else [])
    for url in urls:
        ended = await apictl("list-users", environment=environment | {"APICTL_DATABASE_URL": url})
        assert ended.code == 12, ended
        assert "APICTL_DATABASE_URL" in ended.err
        assert "wrong-password" not in ended.err


async def test_what_kubernetes_injects_is_no_misspelling(apictl: Apictl, environment: dict[str, str]) -> None:
    """In the pods beside a Service that is called apictl."""
    injected = {
        "APICTL_SERVICE_HOST": "10.0.0.1",
        "APICTL_SERVICE_PORT": "8000",
        "APICTL_SERVICE_PORT_HTTP": "8000",
        "APICTL_PORT": "tcp://10.0.0.1:8000",
        "APICTL_PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    assert (await apictl("list-users", environment=environment | injected)).code == 0


@pytest.mark.parametrize("name", ["APICTL_DATABSE_URL", "APICTL_SECRET"])
async def test_a_misspelt_setting_is_named(apictl: Apictl, environment: dict[str, str], name: str) -> None:
    ended = await apictl("list-users", environment=environment | {name: "x"})
    assert ended.code == 12
    assert name in ended.err
    assert "did you mean APICTL_" in ended.err


async def test_an_unusable_setting_is_named(apictl: Apictl, environment: dict[str, str]) -> None:
    ended = await apictl(
        "list-users", environment=environment | {"APICTL_POOL_SIZE": "many", "APICTL_LISTEN_PORT": "-1"}
    )
    assert ended.code == 12
    assert "APICTL_POOL_SIZE" in ended.err
    assert "APICTL_LISTEN_PORT" in ended.err


@pytest.mark.parametrize(
    "issuer",
    [
        "apictl",
        "ftp://example.com",
        "https://",
        "https://..",
        "https://:8000",
        "https://example.com:",
        "https://example.com:0",
        "https://example.com/api",
        "https://example.com?x=1",
        "https://example.com?",
        "https://example.com#",
        "https://example.com,https://example.org",
        "https://example.com%2fapi",
        "https://[fe80::1%25eth0]",
        "https://bücher.example",
        "https://[:::::]",
        "https://[1.2.3.4]",
        "https://1.2.3.999",
        "https://user@example.com",
        "https://[x",
        "https://example.com:99999",
        "https://exam\nple.com",
    ],
)
def test_an_issuer_must_be_a_url(issuer: str) -> None:
    assert not is_server_url(issuer)


async def test_an_issuer_that_is_no_url_is_named(apictl: Apictl, environment: dict[str, str]) -> None:
    ended = await apictl("list-users", environment=environment | {"APICTL_ISSUER": "https://example.com?"})
    assert (ended.code, "APICTL_ISSUER: it must be a URL" in ended.err) == (12, True), ended.err


@pytest.mark.parametrize(
    "issuer",
    [
        "https://accounts.example.com",
        "http://localhost:8000/",
        "http://[::1]:65535",
        "https://my_host.lan",
        "http://127.0.0.1",
    ],
)
def test_an_issuer_may_be_any_host(issuer: str) -> None:
    assert is_server_url(issuer)


def test_links_name_the_port_that_is_listened_on(apictl: Apictl, environment: dict[str, str]) -> None:
    """Tokens do not, which the terminal makes too; and an issuer that is set is in both."""
    for issuer in (None, "https://accounts.example.com/"):
        own = environment | ({} if issuer is None else {"APICTL_ISSUER": issuer})
        with serving("serve", environment=own, start=apictl.start) as server:
            found = json.loads(server.get("/.well-known/oauth-authorization-server")[1])
        expected = server.url.replace("127.0.0.1", "localhost") if issuer is None else issuer.rstrip("/")
        assert found["token_endpoint"] == f"{expected}/v1/auth/token"
        assert found["issuer"] == ("http://localhost:8000" if issuer is None else expected)


async def test_in_the_wrong_folder_nothing_is_made(apictl: Apictl, tmp_path: Path) -> None:
    for line in (["list-users"], ["create-user", "ada@example.com", "--no-password"], ["migration-status"]):
        ended = await apictl(*line, environment=bare_environment())
        assert ended.code == 12
        assert "APICTL_DATABASE_URL" in ended.err
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - one look at a folder, and nothing waits for it


@pytest.mark.parametrize(
    ("workers", "how"),
    [
        ("1", signal.SIGINT),
        # As by SIGTERM, which it becomes.
        ("2", signal.SIGHUP),
        *([("1", signal.SIGTERM), ("1", signal.SIGHUP), ("2", signal.SIGINT), ("2", signal.SIGTERM)] * THOROUGH),
    ],
)
def test_serve_answers_until_it_is_told_to_stop(
    apictl: Apictl, environment: dict[str, str], workers: str, how: signal.Signals
) -> None:
    with serving("serve", "--workers", workers, environment=environment, start=apictl.start) as server:
        assert server.get("/health/ready") == (200, '{"status":"ok"}')
        assert server.get("/v1/users")[0] == 401
        assert server.get("/docs")[0] == 200
        code, printed = server.end(how)
    assert code == 128 + how
    assert "Traceback" not in printed
    with pytest.raises(urllib.error.URLError):
        server.get("/health/live")


async def is_let_in(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/health/live")).status_code == 200
    except httpx2.ConnectError:
        return False


@pytest.mark.parametrize("workers", ["1", *["2"] * THOROUGH])
async def test_sigterm_lets_balancers_notice_and_everybody_have_their_answer(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection, superuser: User, workers: str
) -> None:
    """It is not ready, answers all the same, and ends each connection with an answer; what is under way ends well."""
    line = ["create-api-key", SUPERUSER, "--name", "x", "--scope", "users:write", "--fields", "key", "-o", "csv"]
    key = (await apictl(*line, environment=environment)).out.split()[-1]
    environment["APICTL_DRAIN_TIMEOUT"] = "1"
    with serving("serve", "--workers", workers, environment=environment, start=apictl.start) as server:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as client:
            assert (await client.get("/health/ready")).status_code == 200
            await database.execute("BEGIN; LOCK users IN SHARE MODE")
            headers = {"Authorization": f"Bearer {key}"}
            slow = asyncio.create_task(client.post("/v1/users", json={"email": "ada@example.com"}, headers=headers))
            await somebody_waits(database)
            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                while (ready := await client.get("/health/ready")).status_code == 200:
                    await asyncio.sleep(0.02)
            assert (ready.status_code, ready.json()["code"], ready.headers["Connection"]) == (503, "stopping", "close")
            for path, status in (("/health/live", 200), ("/v1/nothing", 404), ("/v1/users", 401), ("/docs", 200)):
                async with asyncio.timeout(10):
                    # One of two workers may hear of it a little later than the other.
                    while (answer := await client.get(path)).headers.get("Connection") != "close" and workers != "1":
                        await asyncio.sleep(0.02)
                assert (answer.status_code, answer.headers.get("Connection")) == (status, "close"), path
            # Then nobody is let in, although one request is still under way.
            async with asyncio.timeout(10):
                while await is_let_in(client):
                    pass
            assert not slow.done()
            await database.execute("COMMIT")
            assert (await slow).status_code == 201
        code, printed = await asyncio.to_thread(server.end)
    assert (code, "Traceback" in printed) == (143, False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a program say that")
def test_who_comes_while_a_socket_is_closed_is_not_let_in() -> None:
    """Nor refused: they knock again. Who was let in already is still there."""
    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        socket.create_connection(door.getsockname()) as early,
    ):
        turn_away(door)
        with pytest.raises(TimeoutError):
            socket.create_connection(door.getsockname(), timeout=0.1)
        early.sendall(b"x")
        door.settimeout(5)
        accepted, _ = door.accept()
        with accepted:
            assert accepted.recv(1) == b"x"


def test_sigterm_again_ends_the_wait(apictl: Apictl, environment: dict[str, str]) -> None:
    environment["APICTL_DRAIN_TIMEOUT"] = "60"
    with serving("serve", environment=environment, start=apictl.start) as server:
        assert server.get("/health/ready")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.get("/health/ready")[0] == 503, "it did not begin to stop")
        assert server.end()[0] == 143


def test_a_quiet_server_says_nothing(apictl: Apictl, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Path(os.devnull).open("rb") as nothing, TemporaryFile() as said:
        files = (nothing.fileno(), said.fileno(), said.fileno())
        line = ["serve", "-q", "--port", str(port)]
        process = apictl.start(line, files, env=environment, cwd=None, terminal=False)
        with httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, transport=httpx2.HTTPTransport(retries=20)
        ) as client:
            assert client.get("/health/ready", timeout=30).json() == {"status": "ok"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
        said.seek(0)
        assert said.read() == b""


def test_an_answer_is_written_at_once(apictl: Apictl, environment: dict[str, str]) -> None:
    """Head and body, of several requests in one go too; and all of it before the connection is closed."""
    ask = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    last = ask.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with serving("serve", environment=environment, start=apictl.start) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            for _ in range(30):
                client.sendall(ask)
                assert client.recv(65536).endswith(b'{"status":"ok"}')
            if sys.platform == "linux":
                # tcpi_data_segs_in, of tcp(7): packets with data in them.
                said = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
                assert int.from_bytes(said[152:156], sys.byteorder) == 30
            client.sendall(ask * 3 + last)
            with client.makefile("rb") as answers:
                assert answers.read().count(b'{"status":"ok"}') == 4
        # Whoever does not wait is no failure.
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(ask * 50)
        assert server.get("/health/live")[0] == 200
        assert "Traceback" not in server.end(signal.SIGTERM)[1]


def test_a_large_body_costs_no_memory(apictl: Apictl, environment: dict[str, str]) -> None:
    """Row 31: 64 MiB, declared and not, through the real server."""
    with serving("serve", environment=environment, start=apictl.start) as server:
        server.get("/health/ready")
        before = resident(server.process.pid)
        port = int(server.url.rpartition(":")[2])
        for head in (f"Content-Length: {64 << 20}", "Transfer-Encoding: chunked"):
            assert b" 413 " in post(port, head)
        assert resident(server.process.pid) - before <= 5 * 1024
        assert server.get("/health/ready")[0] == 200


def post(port: int, head: str) -> bytes:
    """Send up to 64 MiB to the token endpoint, as far as it is taken, and return the first line of the answer."""
    form = "Content-Type: application/x-www-form-urlencoded"
    piece = b"x" * 65536
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"POST /v1/auth/token HTTP/1.1\r\nHost: x\r\n{form}\r\n{head}\r\n\r\n".encode())
        try:
            for _ in range(1024):
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if "chunked" in head else piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            return connection.recv(200).partition(b"\r\n")[0]
        except ConnectionResetError:
            pytest.fail("the connection was reset before the answer could be read")


def test_answers_are_not_held_back(environment: dict[str, str]) -> None:
    """A socket without a protocol keeps Nagle's algorithm: each answer on a kept connection would take 40 ms more."""
    call = Call(settings=Settings(), fields=(), quiet=True, interactive=False, dry_run=False, yes=False)
    (listening,) = listen(call, "127.0.0.1", 0)
    with listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_quickstart_from_nothing_and_again(apictl: Apictl, tmp_path: Path) -> None:
    """One command makes everything; the second time it makes nothing, and what was there is there."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    environment = bare_environment()
    with serving("quickstart", environment=environment, cwd=folder, start=apictl.start) as server:
        password = server.wait_for(r"password     (\S+)")[1]
        assert server.get("/health/ready")[0] == 200
        # Another terminal, while it runs.
        listed = subprocess.run(
            [APICTL, "list-users"], env=environment, cwd=folder, capture_output=True, text=True, check=True
        )
        assert "admin@example.com" in listed.stdout
        assert server.end(signal.SIGINT)[0] == 130
    home = folder / ".apictl"
    assert oct((home / "secret_key").stat().st_mode)[-3:] == "600"
    everything = b"".join(path.read_bytes() for path in home.iterdir() if path.is_file())
    assert password.encode() not in everything
    key = (home / "secret_key").read_bytes()

    with serving("quickstart", environment=environment, cwd=folder, start=apictl.start) as server:
        assert server.get("/health/ready")[0] == 200
        code, printed = server.end(signal.SIGINT)
    assert code == 130
    assert "shown once" not in printed
    # Its PostgreSQL went with it.
    until(lambda: not processes(locate(home).place), "its PostgreSQL is still there")
    assert "Traceback" not in printed
    assert (home / "secret_key").read_bytes() == key
    # A command starts one for itself, and stops it.
    shown = subprocess.run(
        [APICTL, "set-password", "admin@example.com", "--password-stdin", "-o", "json"],
        env=environment, cwd=folder, input=PASSWORD, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert '"changed": true' in shown.stdout


def test_dev_reloads(apictl: Apictl, environment: dict[str, str], empty_url: str, tmp_path: Path) -> None:
    """It migrates the database that it is given, and starts again when a file changes."""
    package = tmp_path / "watched.py"
    package.write_text("")
    environment["APICTL_DATABASE_URL"] = empty_url
    with serving("dev", environment=environment, cwd=tmp_path, start=apictl.start) as server:
        assert server.get("/health/ready")[0] == 200
        package.write_text("changed = True\n")
        server.wait_for(r"watched\.py.*Reloading")

        def ready() -> bool:
            try:
                return server.get("/health/ready")[0] == 200
            except OSError:
                # It reached the one that is on its way out.
                return False

        until(ready, "it did not start again")
        code, _ = server.end(signal.SIGINT)
        assert code in {0, 130}


async def test_quickstart_takes_what_is_there(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    await apictl("create-user", "ada@example.com", "--superuser", "--no-password", environment=environment)
    with serving("quickstart", environment=environment, start=apictl.start) as server:
        assert await asyncio.to_thread(server.get, "/health/ready") == (200, '{"status":"ok"}')
        _, printed = await asyncio.to_thread(server.end)
    assert "superuser" not in printed
    assert await database.fetchval("SELECT count(*) FROM users") == 1
