"""The starting of the keeper, and the hearing of its answer; what it then does is in `keeper`."""

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import api
from api.core.errors import ApictlError
from api.postgres.cluster import Cluster
from api.postgres.errors import EmbeddedPostgresFailed
from api.postgres.layout import Layout

# Our own package is found last, and nothing in the current folder at all: as root that may be anybody's.
BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from api.postgres.keeper import main; main()"


def start_keeper(cluster: Cluster, own_lock: int, deadline: float) -> bool:
    """Start the keeper, which inherits the lock that says it is there, and wait for its answer."""
    root = str(Path(api.__file__).resolve().parent.parent)
    with subprocess.Popen(  # noqa: S603 - our own words, no shell
        [sys.executable, "-P", "-c", BOOT, root, cluster.to_json(), str(own_lock)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(own_lock,),
        env=without_secrets(),
        start_new_session=True,  # the terminal's Ctrl-C is for us, not for the server that others use too
    ) as process:
        assert process.stdout is not None  # noqa: S101 - by the line above
        text = _read_by(process.stdout.fileno(), deadline)
    if text is None:
        raise too_late(cluster.layout, f"It may be recovering from a crash; see {cluster.layout.log}.")
    try:
        answer = json.loads(text.strip().rpartition("\n")[2])
    except ValueError:
        raise EmbeddedPostgresFailed(
            cause="\n".join(text.strip().splitlines()[-5:]) or "Its keeper ended without a word.",
            hint=f"see {cluster.layout.log}",
        ) from None
    if "code" in answer:
        raise ApictlError.registry[answer["code"]](answer["detail"], cause=answer["cause"], hint=answer["hint"])
    return bool(answer["created"])


def without_secrets() -> dict[str, str]:
    """Return our environment for a process that outlives us: passwords and keys in it are none of its business."""
    kept = {"APICTL_STATE_DIR", "APICTL_POSTGRES_USER"}
    ours = ("APICTL_", "DATABASE_URL", "PG")
    return {name: value for name, value in os.environ.items() if name in kept or not name.startswith(ours)}


def _read_by(pipe: int, deadline: float) -> str | None:
    """Read until the other side closes the pipe; None if it has not done so by the deadline."""
    text = b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        chunk = os.read(pipe, 65536)
        if not chunk:
            return text.decode(errors="replace")
        text += chunk


def too_late(layout: Layout, cause: str) -> EmbeddedPostgresFailed:
    """Say that the caller's time is over."""
    return EmbeddedPostgresFailed(
        f"The embedded PostgreSQL in {layout.home} was not ready in time", cause=cause, hint="try again"
    )
