"""Migrating through PgBouncer, where each transaction may have another connection to the database."""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from pydantic import SecretStr

from api.config import Settings
from api.core.runtime import Runtime
from api.migrations.revisions import chain, head
from tests.migrations.conftest import Operator, Source
from tests.migrations.test_runs import CONCURRENTLY
from tests.support import postgres
from tests.support.processes import Apictl, bare_environment

PGBOUNCER: Final = shutil.which("pgbouncer", path=os.defpath + ":/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed (Debian: apt install pgbouncer)")


@contextmanager
def in_front_of(url: str, *, size: int) -> Iterator[str]:
    """Hold a PgBouncer in transaction mode, with so many connections to the database; yield the URL of its own."""
    parts = urlsplit(url)
    host = parts.hostname or dict(parse_qsl(parts.query))["host"]
    server_port = parts.port or dict(parse_qsl(parts.query)).get("port", 5432)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with TemporaryDirectory(prefix="apictl-pgbouncer-") as name:
        folder = Path(name)
        (folder / "users").write_text(f'"{parts.username}" "{unquote(parts.password or "")}"\n')
        (folder / "ini").write_text(
            f"[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users\n"
            f"pool_mode = transaction\ndefault_pool_size = {size}\nmax_client_conn = 100\nserver_reset_query =\n"
        )
        line = [str(PGBOUNCER), str(folder / "ini")]
        if os.geteuid() == 0:
            # It does not run as root.
            # Nobody else can reach the embedded server's socket.
            account = pwd.getpwuid(Path(host).stat().st_uid) if host.startswith("/") else pwd.getpwnam("nobody")
            for path in (folder, *folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
            line[1:1] = ["--user", account.pw_name]
        with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                deadline = time.monotonic() + 20
                while True:
                    assert process.poll() is None, "PgBouncer ended"
                    assert time.monotonic() < deadline, "PgBouncer did not start"
                    with socket.socket() as tried:
                        if tried.connect_ex(("127.0.0.1", port)) == 0:
                            break
                    time.sleep(0.02)
                yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"
            finally:
                process.terminate()


async def test_ten_at_once(apictl: Apictl, empty_url: str) -> None:
    with in_front_of(empty_url, size=3) as url:
        environment = bare_environment(APICTL_DATABASE_URL=url)
        ended = await asyncio.gather(*(apictl("migrate", "-o", "json", environment=environment) for _ in range(10)))
        assert [one.code for one in ended] == [0] * 10, [one.err for one in ended if one.code]
        assert sorted(one.json()["changed"] for one in ended) == [False] * 9 + [True]
        looks = [["migrate", "--check"], ["migration-status"], ["migration-history"], ["check-models"], ["list-users"]]
        ended = await asyncio.gather(*(apictl(*line, environment=environment) for line in looks * 2))
        assert [one.code for one in ended] == [0] * 10, [one.err for one in ended if one.code]
    async with postgres.connected(empty_url) as connection:
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == head()
        held = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database WHERE datname = "
        assert await connection.fetchval(held + "current_database() AND locktype = 'advisory'") == 0


async def test_what_leaves_its_transaction(source: Source, database_url: str, settings: Settings) -> None:
    source.add("test1", 'op.execute("CREATE TABLE first (id int)")')
    source.add("test2", CONCURRENTLY)
    with in_front_of(database_url, size=4) as url:
        there = settings.model_copy(update={"database_url": SecretStr(url)})
        async with Runtime.open(there, pool_size=2) as one, Runtime.open(there, pool_size=2) as two:
            ended = await asyncio.gather(Operator(one).migrate(), Operator(two).migrate())
    assert sorted(step.id for run in ended for step in run.applied) == ["test1", "test2"]
    assert chain()[-1].id == "test2"
