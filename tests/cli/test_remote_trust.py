"""Whom a command trusts on the way to a server: certificates, a folder's settings, and what is kept of a login."""

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cli.test_remote_answers import CANARY, USER
from tests.support.answering import always, answering, document
from tests.support.processes import Apictl, bare_environment

HERE: Final = {"APICTL_SERVER": "http://127.0.0.1:1"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "config" / "apictl"


@pytest.fixture
def elsewhere(home: Path) -> dict[str, str]:
    """The environment of a machine that has neither a database nor a secret key, and where nobody is logged in."""
    return bare_environment(XDG_CONFIG_HOME=str(home.parent), NO_PROXY="127.0.0.1,localhost")


def log_in(home: Path, server: str, token: str = "old") -> Path:
    """Keep a login to a server."""
    home.mkdir(parents=True, exist_ok=True)
    kept = home / "login.json"
    kept.write_text(json.dumps({"server": server, "access_token": token, "refresh_token": f"{token}-refresh"}))
    kept.chmod(0o600)
    return kept


@pytest.fixture
def own_certificate(tmp_path: Path) -> ssl.SSLContext:
    """The side of a server whose certificate nobody else has signed."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=localhost")
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form) + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_tls_is_verified_however_its_name_is_written(
    apictl: Apictl, elsewhere: dict[str, str], own_certificate: ssl.SSLContext
) -> None:
    by_token = elsewhere | {"APICTL_TOKEN": CANARY}
    async with answering(always(USER), own_certificate) as (port, requests):
        for url in (f"https://localhost:{port}", f"HTTPS://localhost:{port}", f"Https://LOCALHOST:{port}/"):
            ended = await apictl("activate-user", "x", "--server", url, environment=by_token)
            assert (ended.code, requests) == (7, []), ended
            assert "cause: certificate verify failed: self-signed certificate\n" in ended.err


async def test_https_to_a_port_of_http(apictl: Apictl, elsewhere: dict[str, str]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        there = ("--server", f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        ended = await apictl("activate-user", "x", *there, environment=elsewhere | {"APICTL_TOKEN": CANARY})
    assert (ended.code, "speaks no TLS" in ended.err, "begins with http://" in ended.err) == (7, True, True), ended


async def test_a_server_has_one_name(apictl: Apictl, elsewhere: dict[str, str], home: Path) -> None:
    async with answering(always(USER)) as (port, _):
        log_in(home, f"http://127.0.0.1:{port}")
        there = ("--server", f"HTTP://127.0.0.1:{port}/")
        ended = await apictl("show-user", "x", *there, environment=elsewhere)
        assert ended.code == 0, ended.err


async def test_two_commands_refresh_a_login_once(apictl: Apictl, elsewhere: dict[str, str], home: Path) -> None:
    """Used twice, a refresh token ends the session, and so everybody's work."""
    # Both have read the login that has run out before one of them knows of it.
    both = asyncio.Barrier(2)
    spent: list[str] = []

    async def answer(request: str) -> bytes:
        if request.startswith("POST"):
            spent.append(request)
            if len(spent) > 1 or "old-refresh" not in request:
                return document({"code": "invalid-grant", "title": "x", "detail": "reused"}, 400)
            return document({"access_token": "new", "refresh_token": "new-refresh"})
        if "Bearer old" in request:
            await both.wait()
            return document({"code": "invalid-token", "title": "x", "detail": "x"}, 401)
        return document(USER)

    async with answering(answer) as (port, _):
        kept = log_in(home, f"http://127.0.0.1:{port}")
        ended = await asyncio.gather(*(apictl("whoami", environment=elsewhere) for _ in range(2)))
    assert [one.code for one in ended] == [0, 0], ended
    assert (len(spent), json.loads(kept.read_text())["refresh_token"]) == (1, "new-refresh")


@pytest.mark.parametrize("what", ["another login", "logged out", "nothing can be kept"])
async def test_what_has_happened_meanwhile_stays(
    apictl: Apictl, elsewhere: dict[str, str], home: Path, what: str
) -> None:
    """A newer login is not overwritten, and nothing is spent that could not be kept."""

    async def answer(_: str) -> bytes:
        if what == "another login":
            log_in(home, "https://other.example.com", "other")
        elif what == "logged out":
            (home / "login.json").unlink()
        else:
            home.rename(home.parent / "away")
            home.write_text("in the way")
        return document({"code": "invalid-token", "title": "x", "detail": "x"}, 401)

    async with answering(answer) as (port, requests):
        server = f"http://127.0.0.1:{port}"
        kept = log_in(home, server)
        ended = await apictl("show-user", "x", "--server", server, environment=elsewhere)
    assert (ended.code, "hint: " in ended.err or what == "nothing can be kept") == (2 if "can" in what else 4, True)
    assert requests == ["GET /v1/users/x"], ended.err
    if what == "another login":
        assert json.loads(kept.read_text())["refresh_token"] == "other-refresh"
    else:
        assert not kept.exists()


@pytest.mark.parametrize(
    ("in_file", "own", "words", "code", "said"),
    [
        # A folder that came from somewhere names its server, and would get the token of whoever works in it.
        (HERE, {"APICTL_TOKEN": CANARY}, [], 12, "APICTL_SERVER of .env names a server, and APICTL_TOKEN of the env"),
        (HERE, {"APICTL_TOKEN_FILE": "token"}, [], 12, "and APICTL_TOKEN_FILE of the environment a token"),
        (
            {"APICTL_TOKEN": CANARY},
            HERE,
            [],
            12,
            "APICTL_SERVER of the environment names a server, and APICTL_TOKEN of",
        ),
        (HERE | {"APICTL_TOKEN": CANARY}, {}, [], 7, "cannot be reached"),
        (HERE | {"APICTL_TOKEN_FILE": "token"}, {}, [], 7, "cannot be reached"),
        ({}, HERE | {"APICTL_TOKEN": CANARY}, [], 7, "cannot be reached"),
        # Whoever names the server has decided.
        (HERE, {"APICTL_TOKEN": CANARY}, ["--server", "http://127.0.0.1:1"], 7, "cannot be reached"),
        (HERE | {"APICTL_TOKEN_FILE": "../token"}, {}, [], 12, "names a file outside of its folder"),
        (HERE | {"APICTL_TOKEN_FILE": "link"}, {}, [], 12, "names a file outside of its folder"),
        ({}, HERE | {"APICTL_TOKEN_FILE": "../token"}, [], 7, "cannot be reached"),
    ],
)
async def test_a_token_goes_where_its_owner_says(
    apictl: Apictl,
    elsewhere: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_file: dict[str, str],
    own: dict[str, str],
    words: list[str],
    code: int,
    said: str,
) -> None:
    folder = tmp_path / "cloned"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for file in (tmp_path / "token", folder / "token"):
        file.write_text(CANARY)
        file.chmod(0o600)
    Path("link").symlink_to("../token")
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in in_file.items()))
    # What reads would be asked again where nobody answers.
    for command in (["activate-user", "x", *words], *([["whoami"]] if code == 12 else [])):
        ended = await apictl(*command, environment=elsewhere | own)
        assert (ended.code, said in ended.err, CANARY in ended.err) == (code, True, False), (command, ended.err)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "socks5://user:c4nary@127.0.0.1:1"),
        ("all_proxy", "foo://user:c4nary@127.0.0.1:1"),
        ("SSL_CERT_FILE", "/nonexistent"),
    ],
)
async def test_what_the_environment_says_of_the_network(
    apictl: Apictl, elsewhere: dict[str, str], name: str, value: str
) -> None:
    own = elsewhere | {"APICTL_TOKEN": CANARY, name: value}
    ended = await apictl("list-users", "--server", "https://127.0.0.1:1", environment=own)
    assert (ended.code, name in ended.err.splitlines()[0], "c4nary" in ended.err) == (12, True, False), ended.err


async def test_a_url_with_a_password_is_shown_to_nobody(apictl: Apictl, elsewhere: dict[str, str]) -> None:
    url = "https://ada:c4nary@example.com"
    for words, own, code in (
        (["show-config"], {"APICTL_SERVER": url}, 12),
        (["whoami"], {"APICTL_SERVER": url}, 12),
        (["list-users", "--server", url], {}, 2),
        # Nor is an empty name none.
        (["list-users", "--server", ""], HERE | {"APICTL_TOKEN": CANARY}, 2),
    ):
        ended = await apictl(*words, environment=elsewhere | own)
        assert (ended.code, "c4nary" in ended.out + ended.err) == (code, False), ended


async def test_a_login_is_read_only_where_it_counts(apictl: Apictl, elsewhere: dict[str, str], home: Path) -> None:
    async with answering(always(USER)) as (port, _):
        log_in(home, "https://other.example.com").chmod(0o640)
        own = elsewhere | {"APICTL_SERVER": f"http://127.0.0.1:{port}", "APICTL_TOKEN": CANARY}
        ended = await apictl("whoami", environment=own)
    assert ended.code == 0, ended.err


async def test_a_refused_token_is_told_from_where_it_is(
    apictl: Apictl, elsewhere: dict[str, str], home: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(CANARY)
    (tmp_path / "token").chmod(0o600)
    file = str(tmp_path / "token")
    refused = always({"code": "invalid-token", "title": "x", "detail": "x", "hint": "log in again"}, 401)
    async with answering(refused) as (port, _):
        for name, value, where in (
            ("APICTL_TOKEN", CANARY, "APICTL_TOKEN"),
            ("APICTL_TOKEN_FILE", file, file),
        ):
            own = elsewhere | {name: value}
            ended = await apictl("list-users", "--server", f"http://127.0.0.1:{port}", environment=own)
            assert (ended.code, ended.err.splitlines()[-1]) == (4, f"hint: the token is from {where}")


async def test_a_file_is_sent_once(apictl: Apictl, elsewhere: dict[str, str], home: Path) -> None:
    """Also where the login runs out between the question who it is, and the file."""

    async def answer(request: str) -> bytes:
        if request.startswith("GET"):
            return document(USER)
        return document({"code": "invalid-token", "title": "x", "detail": "x"}, 401)

    async with answering(answer) as (port, requests):
        log_in(home, f"http://127.0.0.1:{port}")
        own = elsewhere | {"APICTL_SERVER": f"http://127.0.0.1:{port}"}
        ended = await apictl("import-users", "-", environment=own, stdin="email\neve@example.com\n")
    assert (ended.code, "hint: run it again" in ended.err, len(requests)) == (4, True, 2), ended.err


async def test_whoever_is_sent_elsewhere_by_a_folder_is_told(
    apictl: Apictl, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    async with answering(always(USER)) as (port, _):
        own = f"APICTL_SERVER=http://127.0.0.1:{port}\nAPICTL_TOKEN={CANARY}\n"
        (tmp_path / ".env").write_text(own)
        ended = await apictl("show-user", "x", environment=elsewhere)
        assert (ended.code, ended.err) == (0, f"On http://127.0.0.1:{port}, which .env names.\n")
