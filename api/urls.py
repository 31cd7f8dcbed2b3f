"""How servers, web sites and networks are written in settings."""

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Final

# A host by its ASCII name (RFC 1123), or by its address; a port that can be one.
SERVER_URL: Final = re.compile(
    r"https?://(?P<host>\w([\w-]*\w)?(\.\w([\w-]*\w)?)*|\[[a-f\d:.]+\])(:(?P<port>[1-9]\d{0,4}))?/*",
    re.ASCII | re.IGNORECASE,
)
HOST_PATTERN: Final = re.compile(r"\*|(\*\.)?[\w-]+(\.[\w-]+)*", re.ASCII)


def is_server_url(text: str) -> bool:
    """Tell whether this is a URL of a scheme and a host, and perhaps a port.

    Every path is ours: one here would be before all of them, in the pages too; in RFC 8414, behind the well-known one.
    """
    found = SERVER_URL.fullmatch(text)
    if found is None or int(found["port"] or 443) > 65535:
        return False
    host = found["host"]
    # What looks like an address has to be one (WHATWG URL, "ends in a number").
    if host.startswith("[") or host.rpartition(".")[2].isdecimal():
        try:
            ip_address(host.strip("[]"))
        except ValueError:
            return False
        return host.startswith("[") == (":" in host)
    return True


def is_origin(text: str) -> bool:
    """Tell whether a browser can send this as an Origin: it leaves out a port that is the scheme's own."""
    own = ":80" if text.startswith("http:") else ":443"
    return is_server_url(text) and not text.endswith(("/", own))


def is_network(text: str) -> bool:
    """Tell whether this is an address, or a network without bits beyond its length."""
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


# By setting: what one of its parts must be, and what a person is told who got it wrong.
LISTS: Final[dict[str, tuple[Callable[[str], object], str]]] = {
    "allowed_hosts": (HOST_PATTERN.fullmatch, "a name of a host, as api.example.com or *.example.com"),
    "trusted_proxies": (is_network, "an address or a network, as 10.0.0.1 or 10.0.0.0/8"),
    "cors_origins": (is_origin, "the origin of a web site, as https://app.example.com, without anything behind it"),
}


def listed(text: str) -> list[str]:
    """Return the parts of a setting that takes several; case makes no difference in any of them."""
    return [part.strip().lower() for part in text.split(",") if part.strip()]
