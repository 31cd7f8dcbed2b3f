"""What leaves, what does not, and that nothing is lost: a real mail server takes, refuses, keeps silent and dies."""

import asyncio
import json
import logging
import os
import re
import signal
import ssl
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import pytest
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from api.config import Settings
from api.core.runtime import Runtime
from api.mail import letters, sending
from api.mail.crud import ATTEMPTS
from api.mail.worker import PAGES
from api.users.models import User
from tests.conftest import SUPERUSER
from tests.migrations.test_pgbouncer import PGBOUNCER, in_front_of
from tests.support.mail import MailServer, mail_server, worker_of
from tests.support.processes import Apictl, Process
from tests.support.server import serving

EVE: Final = "eve@example.com"
ROW: Final = "SELECT attempts, error, sent_at, due_at, due_at - now() AS pause FROM mails"


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with mail_server() as started:
        yield started


@pytest.fixture
async def sending_runtime(settings: Settings, server: MailServer) -> AsyncIterator[Runtime]:
    """The resources of a process that sends to that server."""
    async with Runtime.open(settings.model_copy(update={"smtp_url": SecretStr(server.url)})) as opened:
        yield opened


async def queue(database: asyncpg.Connection, email: str = EVE) -> None:
    """Queue the mail of a registration."""
    await database.execute(
        "INSERT INTO mails (id, kind, address, minute) VALUES (gen_random_uuid(), 'register', $1, 0)", email
    )


async def until(database: asyncpg.Connection, question: str) -> None:
    """Wait until the database says yes."""
    async with asyncio.timeout(20):
        while not await database.fetchval(question):
            await asyncio.sleep(0.02)


@contextmanager
def serving_work(apictl: Apictl, environment: dict[str, str], log: Path | None = None) -> Iterator[Process]:
    """Run `apictl work`."""
    with Path(os.devnull).open("r+b") as nothing, (log or Path(os.devnull)).open("ab") as said:
        number = nothing.fileno()
        process = apictl.start(["work"], (number, number, said.fileno()), env=environment, cwd=None, terminal=False)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize(
    ("how", "words", "is_over"),
    [
        ({"refuses": "550 5.1.1 no such mailbox"}, "550 5.1.1 no such mailbox", True),
        ({"refuses": "451 4.7.1 come back later"}, "451 4.7.1 come back later", False),
        ({"answer": "554 5.7.1 we do not like it"}, "554 5.7.1 we do not like it", True),
        ({"answer": "452 4.2.2 the disk is full"}, "452 4.2.2 the disk is full", False),
        ({"answer": "cut"}, "SMTPServerDisconnected", False),
        ({"answer": None}, "longer than", False),
        ({"url": "smtp://127.0.0.1:1"}, "SMTPConnectError", False),
        ({"url": "smtp+starttls://127.0.0.1:{port}"}, "SMTPException", False),
    ],
    ids=["550", "451", "554", "452", "dies", "silent", "away", "no encryption"],
)
async def test_a_server_that_does_not_take_it(
    settings: Settings,
    server: MailServer,
    database: asyncpg.Connection,
    how: dict[str, Any],
    words: str,
    is_over: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 0.3)
    port = server.url.rpartition(":")[2]
    url = how.pop("url", server.url).format(port=port)
    for name, value in how.items():
        setattr(server, name, value)
    await queue(database)
    async with Runtime.open(settings.model_copy(update={"smtp_url": SecretStr(url)})) as runtime:
        worker = worker_of(runtime, runtime.settings)
        with caplog.at_level(logging.WARNING, "apictl"):
            await worker.drain()
        row = await database.fetchrow(ROW)
        assert row is not None
        assert words in row["error"]
        assert words in caplog.text
        assert (row["attempts"], row["sent_at"], row["due_at"] is None) == (1, None, is_over)
        # As the server is well again, it comes after all; once.
        server.answer, server.refuses = "250 taken", None
        worker._sender = sending.Sender(settings.model_copy(update={"smtp_url": SecretStr(server.url)}))
        assert is_over or 10 < row["pause"].total_seconds() <= 15
        await database.execute("UPDATE mails SET due_at = now() WHERE due_at IS NOT NULL")
        for _ in range(2):
            await worker.drain()
        assert len(server.mails) == (0 if is_over else 1)


async def test_a_server_that_is_silent_after_it_has_taken_it(
    settings: Settings, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be sent again and again to whoever waits for an answer to QUIT."""
    monkeypatch.setattr(sending, "PATIENCE", 1.0)
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            lines.append(line)
            if line.startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
            if not line.startswith(b"QUIT"):
                writer.write(b"250 yes\r\n")
        writer.close()

    await queue(database)
    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        url = f"smtp://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with Runtime.open(settings.model_copy(update={"smtp_url": SecretStr(url)})) as runtime:
            await worker_of(runtime, runtime.settings).drain()
    assert sum(line.startswith(b"DATA") for line in lines) == 1
    assert await database.fetchval("SELECT sent_at IS NOT NULL FROM mails")


def test_what_a_server_says_in_no_utf_8_is_kept() -> None:
    reason = sending.NotSent("550 Empf\udce4nger\x00 unbekannt", is_final=True)
    assert str(reason) == "550 Empf nger unbekannt"


async def test_it_is_given_up_in_the_end(
    sending_runtime: Runtime, server: MailServer, database: asyncpg.Connection
) -> None:
    server.answer = "452 not now"
    await queue(database)
    pauses = []
    for _ in range(ATTEMPTS):
        await worker_of(sending_runtime, sending_runtime.settings).drain()
        pauses.append(await database.fetchval("SELECT due_at - now() FROM mails"))
        await database.execute("UPDATE mails SET due_at = now() WHERE due_at IS NOT NULL")
    assert pauses[-1] is None
    seconds = [pause.total_seconds() for pause in pauses[:-1]]
    assert seconds == sorted(seconds)
    assert 2 * 3600 < sum(seconds) < 3 * 3600
    # Why is kept.
    assert await database.fetchval("SELECT error FROM mails") == "452 not now"


async def test_many_workers_send_each_once(
    sending_runtime: Runtime, server: MailServer, database: asyncpg.Connection
) -> None:
    for number in range(60):
        await queue(database, f"eve{number}@example.com")
    workers = [worker_of(sending_runtime, sending_runtime.settings) for _ in range(5)]
    await asyncio.gather(*(worker.drain() for worker in workers))
    assert sorted(to for to, _ in server.subjects) == sorted(f"eve{number}@example.com" for number in range(60))
    assert sum(worker.tally.sent for worker in workers) == 60


async def test_a_worker_that_is_killed_has_lost_nothing(
    apictl: Apictl, environment: dict[str, str], server: MailServer, database: asyncpg.Connection, superuser: User
) -> None:
    own = environment | {"APICTL_SMTP_URL": server.url}
    await queue(database)
    server.answer = None
    with serving_work(apictl, own) as process:
        await asyncio.wait_for(server.held.wait(), 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
    server.answer = "250 taken"
    # Another leaves it alone for as long as it may be in somebody's hands; then it is sent.
    ended = await apictl("work", "--once", environment=own)
    assert (ended.code, ended.err.splitlines()[-1]) == (0, "0 sent, 0 not sent")
    assert server.mails == []
    await database.execute("UPDATE mails SET due_at = now()")
    ended = await apictl("work", "--once", environment=own)
    assert (ended.code, ended.err.splitlines()[-1]) == (0, "1 sent, 0 not sent")
    assert [to for to, _ in server.subjects] == [EVE]
    row = await database.fetchrow(ROW)
    assert row is not None
    assert (row["attempts"], row["due_at"]) == (2, None)


@pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed (Debian: apt install pgbouncer)")
async def test_work_goes_on_behind_pgbouncer(
    apictl: Apictl, environment: dict[str, str], server: MailServer, database: asyncpg.Connection, superuser: User
) -> None:
    """In transaction mode, where each transaction may have another connection, and nobody can LISTEN."""
    with in_front_of(environment["APICTL_DATABASE_URL"], size=2) as url:
        own = environment | {"APICTL_SMTP_URL": server.url, "APICTL_DATABASE_URL": url}
        with serving_work(apictl, own):
            for number in range(10):
                await queue(database, f"eve{number}@example.com")
            await until(database, "SELECT count(*) = 10 FROM mails WHERE sent_at IS NOT NULL")
    assert len(server.mails) == 10


async def test_a_worker_that_is_told_to_stop_sends_what_is_in_hand(
    apictl: Apictl,
    environment: dict[str, str],
    server: MailServer,
    database: asyncpg.Connection,
    superuser: User,
    tmp_path: Path,
) -> None:
    server.hold = asyncio.Event()
    await queue(database)
    log = tmp_path / "log"
    with serving_work(apictl, environment | {"APICTL_SMTP_URL": server.url}, log) as process:
        await asyncio.wait_for(server.held.wait(), 20)
        process.send_signal(signal.SIGTERM)
        await queue(database, "later@example.com")
        server.hold.set()
        assert await asyncio.to_thread(process.wait, 20) == 143
    # It has the log that servers have.
    told = [json.loads(line) for line in log.read_text(encoding="ascii").splitlines()]
    stopping, sent, at_last = (line["message"] for line in told[-3:])
    assert (stopping, at_last) == ("Told to stop: what is in hand is still sent", "1 sent, 0 not sent")
    assert re.fullmatch(r"mail [0-9a-f-]{36} \(register\): sent", sent)
    assert [to for to, _ in server.subjects] == [EVE]
    assert await database.fetchval("SELECT sent_at IS NOT NULL FROM mails WHERE address = $1", EVE)
    assert await database.fetchval("SELECT attempts FROM mails WHERE address = 'later@example.com'") == 0


async def test_once_says_what_was_not_sent(
    apictl: Apictl, environment: dict[str, str], server: MailServer, database: asyncpg.Connection, superuser: User
) -> None:
    server.refuses = "550 nobody"
    await queue(database)
    own = environment | {"APICTL_SMTP_URL": server.url}
    ended = await apictl("work", "--once", environment=own)
    assert (ended.code, "550 nobody" in ended.err) == (7, True)
    unset = {name: value for name, value in environment.items() if name != "APICTL_SMTP_URL"}
    for line in (["work", "--once"], ["send-reset", SUPERUSER], ["invite-user", EVE]):
        refused = await apictl(*line, environment=unset)
        assert (refused.code, "APICTL_SMTP_URL" in refused.err) == (12, True), line


async def test_a_server_sends_while_it_serves(
    apictl: Apictl, environment: dict[str, str], server: MailServer, superuser: User, database: asyncpg.Connection
) -> None:
    """And a mail server that keeps silent keeps nobody waiting, also not whoever is deleted meanwhile."""
    own = environment | {"APICTL_SMTP_URL": server.url, "APICTL_WORK_IN_SERVE": "true"}
    server.hold = asyncio.Event()
    with serving("serve", environment=own, start=apictl.start) as serve:
        async with httpx2.AsyncClient(base_url=serve.url, timeout=30, trust_env=False) as client:
            await apictl("create-user", EVE, "--no-password", environment=environment)
            await client.post("/v1/auth/forgot-password", json={"email": EVE})
            await asyncio.wait_for(server.held.wait(), 20)
            deleted = await apictl("delete-user", EVE, "--yes", environment=environment)
            assert deleted.code == 0
            answer = await client.post("/v1/auth/forgot-password", json={"email": SUPERUSER})
            assert answer.status_code == 202
            server.hold.set()
            await until(database, "SELECT count(*) = 1 FROM mails WHERE sent_at IS NOT NULL")
        assert {to for to, _ in server.subjects} == {EVE, SUPERUSER}


def certificate(folder: Path) -> Path:
    """Make a certificate of this machine's, signed by itself, in a file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "mail.pem"
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
async def test_encrypted_to_whom_it_should_be_and_with_a_password(
    settings: Settings,
    database: asyncpg.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    path = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)

    def knows(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        del server, session, envelope, mechanism
        # Not handled: aiosmtpd says so to whoever asks.
        return AuthResult(success=(given.login, given.password) == (b"us@x", b"a:b/c"), handled=False)

    how: dict[str, Any] = {"tls_context": context, "require_starttls": True, "auth_required": True}
    if scheme == "smtps":
        # aiosmtpd believes that it is not encrypted where it was from the start.
        how = {"tls": context, "auth_require_tls": False}
    how["authenticator"] = knows
    async with mail_server(**how) as server:
        await queue(database)

        async def send(password: str) -> str:
            url = SecretStr(server.url.replace("smtp://", f"{scheme}://us%40x:{password}@"))
            await database.execute("UPDATE mails SET due_at = now()")
            async with Runtime.open(settings.model_copy(update={"smtp_url": url})) as runtime:
                await worker_of(runtime, runtime.settings).drain()
            return str(await database.fetchval("SELECT error FROM mails"))

        assert "certificate verify failed" in await send("a%3Ab%2Fc")
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert "535" in await send("wrong")
        assert await database.fetchval("SELECT due_at IS NOT NULL FROM mails")
        assert server.mails == []
        assert await send("a%3Ab%2Fc") == ""
        assert len(server.mails) == 1


async def test_mails_in_a_folder(
    apictl: Apictl, environment: dict[str, str], tmp_path: Path, database: asyncpg.Connection, superuser: User
) -> None:
    own = environment | {
        "APICTL_SMTP_URL": f"file:{tmp_path}/two%20words/mail",
        "APICTL_MAIL_FROM": 'Böse, "A" <a@b.example>',
    }
    refused = await apictl("work", "--once", environment=own)
    assert (refused.code, "APICTL_MAIL_FROM" in refused.err) == (12, True)
    own["APICTL_MAIL_FROM"] = "Konten, Köln <a@b.example>"
    await queue(database)
    assert (await apictl("work", "--once", environment=own)).code == 0
    (file,) = (tmp_path / "two words/mail").iterdir()
    assert (file.suffix, stat.S_IMODE(file.stat().st_mode)) == (".eml", 0o600)
    message = message_from_bytes(file.read_bytes(), policy=policy.SMTP)
    assert message["From"].addresses[0].display_name == "Konten, Köln"
    (tmp_path / "file").touch()
    await queue(database, "b@example.com")
    failed = await apictl("work", "--once", environment=own | {"APICTL_SMTP_URL": f"file:{tmp_path}/file"})
    assert failed.code == 7


@pytest.mark.parametrize(
    "url",
    [
        "mail.example.com", "http://mail.example.com", "smtp://", "smtp://user:secret@mail.example.com", "file:",
        "file://host/x", "smtps://mail.example.com:99999", "smtps://user:se/cret@mail.example.com", "smtps://h/?x=1",
    ],
)  # fmt: skip
async def test_settings_that_cannot_be_meant(apictl: Apictl, environment: dict[str, str], url: str) -> None:
    refused = await apictl("list-users", environment=environment | {"APICTL_SMTP_URL": url})
    assert (refused.code, "APICTL_SMTP_URL" in refused.err, "cret" in refused.err) == (12, True, False)


@pytest.mark.parametrize("name", sorted(path.stem for path in letters.TEMPLATES.glob("*.txt")))
def test_every_template_is_used_and_whole(name: str) -> None:
    assert name in {*PAGES, "changed", "taken"}
    text = (letters.TEMPLATES / f"{name}.txt").read_text(encoding="utf-8")
    assert text.startswith("Subject: ")
    assert ("$link" in text) == (name in PAGES)
    # What stands in a mail is shown as it is: no address or name makes a tag of its own.
    assert "<b>" not in letters.as_html("x", '<b>&\n\nhttps://x.example/#a"b')
