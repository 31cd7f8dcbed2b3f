"""The making of a data folder, which is there whole or not at all, and of the role that owns its database."""

import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from api.postgres.account import credentials, environment
from api.postgres.cluster import DATABASE, ROLE, Cluster, dying_with_parent
from api.postgres.errors import EmbeddedPostgresFailed
from api.postgres.folders import own_folder

# The socket's folder is ours alone, and still a password is asked for: two walls, not one.
PG_HBA = "local all all scram-sha-256\n"


def initialise(cluster: Cluster, lock: int) -> None:
    """Make the data folder under another name, synchronise it, rename it: a kill leaves nothing half-done.

    Raises:
        EmbeddedPostgresFailed: A program failed; the cause is what it said.
        OSError: A file cannot be written.
    """
    layout, account = cluster.layout, cluster.account
    shutil.rmtree(layout.init, ignore_errors=True)
    own_folder(layout.init, account)
    data = ["-D", str(layout.init)]
    initdb = str(cluster.binaries.initdb)
    # Nobody can log in as the superuser: it gets no password, and nothing but passwords is accepted.
    options = ["--username=postgres", "--auth=reject", "--encoding=UTF8", "--data-checksums", "--locale=C"]
    if cluster.major >= 17:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    _run(cluster, lock, [initdb, *data, *options, "--no-sync", "--no-instructions"])
    _write_hba(layout.init / "pg_hba.conf")
    _single_user(
        cluster,
        lock,
        layout.init,
        f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{_password(layout.password)}';\n"
        f"GRANT pg_monitor TO {ROLE};\n"
        f"CREATE DATABASE {DATABASE} OWNER {ROLE};\n",
    )
    if cluster.options.get("fsync") != "off":
        _run(cluster, lock, [initdb, *data, "--sync-only"])
    layout.init.rename(layout.data)
    _sync_folder(layout.place)
    if layout.place != layout.home:
        _write(layout.pointer, f"{layout.place}\n")


def replace_password(cluster: Cluster, lock: int) -> None:
    """Give the role a new password, where the file of the old one is gone: the data must not go with it.

    Raises:
        EmbeddedPostgresFailed: The server failed; the cause is what it said.
        OSError: The file cannot be written.
    """
    password = secrets.token_urlsafe(32)
    _single_user(cluster, lock, cluster.layout.data, f"ALTER ROLE {ROLE} PASSWORD '{password}';\n")
    _write(cluster.layout.password, password)


def _password(path: Path) -> str:
    """Read the password, or make one: before the data, since data without it could not be opened."""
    try:
        return path.read_text()
    except FileNotFoundError:
        password = secrets.token_urlsafe(32)
        _write(path, password)
        return password


def _single_user(cluster: Cluster, lock: int, data: Path, statements: str) -> None:
    """Run statements as superuser without a server, by a pipe: no command line shows them."""
    settings = ["-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", "-c", "log_statement=none"]
    settings += ["-c", "log_checkpoints=off"]
    if cluster.options.get("fsync") == "off" or data == cluster.layout.init:
        settings.append("-F")  # initdb --sync-only follows
    _run(
        cluster,
        lock,
        [str(cluster.binaries.postgres), "--single", "-D", str(data), *settings, "postgres"],
        statements,
    )


def _run(cluster: Cluster, lock: int, command: list[str], text: str = "") -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            command,
            input=text,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env=environment(),
            pass_fds=(lock,),
            preexec_fn=dying_with_parent(signal.SIGKILL),  # safe: the keeper has no threads
            **credentials(cluster.account),
        )
        said, failed = done.stdout, done.returncode != 0
    except OSError as error:
        said, failed = str(error), True
    if failed:
        raise EmbeddedPostgresFailed(
            f"{Path(command[0]).name} failed on {cluster.layout.place}",
            cause="\n".join(said.strip().splitlines()[-5:]),
            hint="mend that (often a full disk or a folder without write access) and run the command again",
        )


def _write_hba(path: Path) -> None:
    """Replace what initdb wrote; as root this is another account's folder, so no link is followed."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "w") as file:
        file.write(PG_HBA)


def _write(path: Path, text: str) -> None:
    """Write a file of mode 0600 that is there whole or not at all."""
    scratch = path.with_name(f"{path.name}.new")
    scratch.unlink(missing_ok=True)
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    scratch.rename(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
