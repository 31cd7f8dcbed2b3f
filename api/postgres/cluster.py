"""One data folder and the programs for it: their settings, their environment, their account."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from api.core.errors import BadSettings
from api.postgres.account import Account, credentials, environment
from api.postgres.binaries import Binaries
from api.postgres.layout import PORT, Layout

ROLE = "apictl"
DATABASE = "apictl"
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Cluster:
    """What the keeper must know; it travels to it as JSON.

    Attributes:
        layout: Where everything is.
        binaries: The programs.
        major: Their major version.
        account: Who runs them, when that is not ourselves.
        options: Server settings that win over postgresql.conf.
        create: Whether a missing data folder is to be made.
    """

    layout: Layout
    binaries: Binaries
    major: int
    account: Account | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    create: bool = False

    def to_json(self) -> str:
        """Write it down for the keeper's command line: it holds no secret."""
        account = self.account and [self.account.uid, self.account.gid]
        return json.dumps(
            [
                [str(self.layout.home), str(self.layout.place)],
                str(self.binaries.folder),
                self.major,
                account,
                dict(self.options),
                self.create,
            ]
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        (home, place), folder, major, account, options, create = json.loads(text)
        return cls(
            Layout(Path(home), Path(place)),
            Binaries(Path(folder), packaged=False),
            major,
            Account(*account) if account else None,
            options,
            create,
        )

    def check_version(self) -> None:
        """Refuse a data folder of another major version before anything touches it.

        Raises:
            BadSettings: The programs are of another major version than the data.
        """
        written = (self.layout.data / "PG_VERSION").read_text().strip()
        if written == str(self.major):
            return
        raise BadSettings(
            f"{self.layout.data} needs PostgreSQL {written}, and the programs are version {self.major}",
            cause=f"The programs are those in {self.binaries.folder}.",
            hint=f"set APICTL_POSTGRES_BIN to the bin folder of a PostgreSQL {written}; to change the version "
            "dump with that one's pg_dump and restore into a new APICTL_HOME, or pg_upgrade",
        )

    def start(self, lock: int) -> subprocess.Popen[bytes]:
        """Start the postmaster, which shares the cluster lock and, on Linux, ends when this process does.

        Call it from the main thread: the kernel watches the thread that forked, not the process.
        """
        return subprocess.Popen(  # noqa: S603 - our own words, no shell
            self._server_command(),
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=environment(),
            pass_fds=(lock,),
            preexec_fn=dying_with_parent(signal.SIGINT),  # noqa: PLW1509 - the keeper has no threads
            **credentials(self.account),
        )

    def _server_command(self) -> list[str]:
        folder = str(self.layout.sockets).replace('"', '""')
        settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": f'"{folder}"',
            "unix_socket_permissions": "0700",
            **self.options,
        }
        command = [str(self.binaries.postgres), "-D", str(self.layout.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command


def dying_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Make a `preexec_fn`: the kernel will send the child this signal when its parent dies, however it dies.

    It runs after the change of account, which would undo it. Only Linux has it.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # it died before we asked

    return ask
