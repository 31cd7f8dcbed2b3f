"""HAProxy before servers of ours, as people put it there: what it hands on, and to whom."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.servers import free_port

# Debian: apt install haproxy
HAPROXY: Final = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
# It lets pass what it can, and uses a connection to a server for whoever comes: what one of them hides in a request
# would be another one's, and lacks the header that it gives to all that it sees. Only to connect is tried again.
CONFIG: Final = """
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    option http-keep-alive
    http-reuse always
    retries 3
    option redispatch
frontend here
    bind 127.0.0.1:{port}
    option accept-invalid-http-request
    http-request set-header X-Front HAProxy
    default_backend there
backend there
    balance roundrobin
    option httpchk
    http-check send meth GET uri /health/ready ver HTTP/1.1 hdr Host localhost
    default-server {check}
{servers}
"""
CHECK: Final = "check inter 250ms fastinter 100ms fall 1 rise 1"


@asynccontextmanager
async def balanced(ports: Sequence[int], folder: Path, *, check: bool = True) -> AsyncIterator[int]:
    """Have HAProxy stand before servers on these ports, for the length of a `with` block; yield its own.

    Args:
        ports: Where they listen.
        folder: Where its configuration is written.
        check: Have it ask them whether they are ready.
    """
    assert HAPROXY is not None  # noqa: S101 - the caller has looked
    port = free_port()
    servers = "\n".join(f"    server s{number} 127.0.0.1:{one}" for number, one in enumerate(ports))
    place = folder / "haproxy.cfg"
    place.write_text(CONFIG.format(port=port, servers=servers, check=CHECK if check else "no-check"), encoding="ascii")
    process = await asyncio.create_subprocess_exec(
        HAPROXY, "-q", "-db", "-f", str(place), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            while not listens(port):  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.02)
        yield port
    finally:
        process.kill()
        await process.wait()


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of loopback."""
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
