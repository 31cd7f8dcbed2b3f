"""Who asks, where a proxy stands between: what it says of its client, if we were told to believe it. HTTP only."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from api.urls import ip_of

Address = IPv4Address | IPv6Address
SCHEMES: Final = {b"http": "http", b"https": "https"}


class Forwarded:
    """Middleware that takes the client's address, and the scheme it used, from whom we trust.

    Not RFC 7239's Forwarded: a proxy that knows nothing of it passes on what its client made up. Never a host: links
    begin with the public URL.
    """

    def __init__(self, app: ASGIApp, proxies: Iterable[str]) -> None:
        self._app = app
        self._networks = [ip_network(one) for one in proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go on, with whoever the proxy speaks for in the proxy's place."""
        if scope["type"] == "http" and scope.get("client"):
            peer = address(scope["client"][0])
            if peer is not None and self._trusts(peer):
                self._believe(scope, peer)
        await self._app(scope, receive, send)

    def _believe(self, scope: Scope, peer: Address) -> None:
        hops, proto = [], b""
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                hops += value.split(b",")
            elif name == b"x-forwarded-proto":
                proto = value.rpartition(b",")[2].strip().lower()
        # From the right: each hop was written by the one after it. The first that we do not trust is who asks; what is
        # to the left of it, they may have made up.
        for hop in reversed(hops):
            said = address(hop.strip().decode("latin-1"))
            if said is None:
                break
            peer = said
            if not self._trusts(peer):
                break
        scope["client"] = (str(peer), 0)
        scope["scheme"] = SCHEMES.get(proto, scope["scheme"])
        # The connection is a proxy's, which may keep it for the next one.
        scope.setdefault("state", {})["is_proxied"] = True

    def _trusts(self, peer: Address) -> bool:
        return any(peer in network for network in self._networks)


def address(text: str) -> Address | None:
    """Return an address, with a port or without; None if it is none.

    With a zone (fe80::1%eth0) it is none: that can be any text, and names an interface of somebody else's machine.
    """
    bare = text[1:].partition("]")[0] if text.startswith("[") else text
    if bare.count(":") == 1:
        bare = bare.partition(":")[0]
    return None if "%" in bare else ip_of(bare)
