"""By what names this server may be called: what else comes in a Host header is somebody's attack, or for another."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from api.core.errors import ApictlError, BadRequest
from api.core.refusals import UnknownHost
from api.urls import ip_of

# A name or an address, and a port (RFC 9110, section 7.2). What it is beyond that is not for us to say.
HOST: Final = re.compile(r"(?P<host>[\w.-]+|\[[\da-f:.]+\])(:\d*)?", re.ASCII)
# Headers that were found to be good, at most; with every port, somebody could think up more of them than that.
REMEMBERED: Final = 1000


class Hosts:
    """The names of a server.

    A page of a stranger gets at a server that only this machine can reach by having the page's own name lead there (DNS
    rebinding). It cannot do that with an address; nor with a name without a dot, which nobody outside can have.

    Attributes:
        known: Host headers that name this server: those that came lately, as they came.
    """

    def __init__(self, public_url: str, allowed: Iterable[str] = ()) -> None:
        """Take the public URL, and further names; `*.` stands for whatever is below a name, `*` for every name."""
        self.known: set[bytes] = set()
        names = {urlsplit(public_url).hostname or "", *allowed}
        self._is_any = "*" in names
        self._names = {name for name in names if not name.startswith("*")}
        self._endings = (".localhost", *(name[1:] for name in names if name.startswith("*.")))

    def refusal(self, header: bytes) -> ApictlError | None:
        """Return why a request with this Host header is refused; None if it is not."""
        found = HOST.fullmatch(header.decode("latin-1").lower())
        if found is None:
            return BadRequest("The header Host names no host")
        if not self._is_any and not self._is_ours(found["host"].rstrip(".")):
            return UnknownHost(f"This server does not go by the name {found['host'][:100]}")
        if len(self.known) < REMEMBERED:
            self.known.add(header)
        return None

    def _is_ours(self, host: str) -> bool:
        if "." not in host and ":" not in host:
            return True
        return host in self._names or host.endswith(self._endings) or ip_of(host.strip("[]")) is not None
