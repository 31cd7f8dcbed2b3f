"""How servers, web sites, networks and senders are written in settings; what refuses one has no word of it."""

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from pydantic import SecretStr, ValidationInfo

# A host by its ASCII name (RFC 1123), or by its address; a port that can be one.
SERVER_URL: Final = re.compile(
    r"https?://(?P<host>\w([\w-]*\w)?(\.\w([\w-]*\w)?)*|\[[a-f\d:.]+\])(:(?P<port>[1-9]\d{0,4}))?/*",
    re.ASCII | re.IGNORECASE,
)
PORT: Final = re.compile(r":(\d+)(?=,|$)", re.ASCII)
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
SENDER: Final = re.compile(r"(?:[^<>@\"]+ <(?=.*>))?[\w.+-]+@[\w.-]+>?(?<!-)(?<!\.)", re.ASCII)
HOST_PATTERN: Final = re.compile(r"\*|(\*\.)?[\w-]+(\.[\w-]+)*", re.ASCII)


def ip_of(text: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address; None if it is none.

    An IPv4 client of a socket that takes both arrives as ::ffff:192.0.2.1.
    """
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


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
        return ip_of(host.strip("[]")) is not None and host.startswith("[") == (":" in host)
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


def public(value: str | None) -> str | None:
    """Return the URL of a server, without a slash at its end.

    Raises:
        ValueError: It is none; as with the others below, Pydantic calls this, and tells it.
    """
    if value is None:
        return None
    if not is_server_url(value):
        raise ValueError("it must be a URL of a scheme and a host, as https://accounts.example.com")
    return value.rstrip("/")


def parts_of(value: "SecretStr") -> SplitResult:
    """Return the parts of a URL that may have a password in it: not in the words of `urlsplit`, which can hold it."""
    try:
        return urlsplit(value.get_secret_value())
    except ValueError:
        raise ValueError("it is not a URL") from None


def of_postgresql(value: "SecretStr | None") -> "SecretStr | None":
    """Return the URL of a database; it may have several hosts."""
    if value is None:
        return None
    parts = parts_of(value)
    if any(int(port) > 65535 for port in PORT.findall(parts.netloc.rpartition("@")[2])):
        raise ValueError("it names a port beyond 65535")
    if parts.scheme.partition("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError("it must start with postgresql:// (only PostgreSQL is supported)")
    return value


def of_valkey(value: "SecretStr | None") -> "SecretStr | None":
    """Return the URL of a Valkey or Redis."""
    if value is None:
        return None
    parts = parts_of(value)
    if not has_port(parts):
        raise ValueError("it is not a URL")
    if parts.scheme not in {"redis", "rediss", "valkey", "valkeys"}:
        raise ValueError("it must start with valkey:// or redis://, or with rediss:// for TLS")
    return value


def of_mail(value: "SecretStr | None") -> "SecretStr | None":
    """Return the URL of what sends mail: an SMTP server, or a folder."""
    if value is None:
        return None
    parts = parts_of(value)
    if parts.scheme == "file":
        if not parts.path or parts.netloc:
            raise ValueError("it names no folder, as file:mail or file:///var/mail")
    elif parts.scheme not in {"smtp", "smtp+starttls", "smtps"} or not parts.hostname or not has_port(parts):
        raise ValueError("it must be smtps://, smtp+starttls:// or smtp:// with a host, or file: with a folder")
    elif parts.scheme == "smtp" and parts.password and parts.hostname not in LOOPBACK:
        raise ValueError("it would send a password unencrypted: use smtp+starttls:// or smtps://")
    elif parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("it has something after the host; a / # or ? of a password is written %2F %23 %3F")
    return value


def has_port(parts: SplitResult) -> bool:
    """Tell whether a URL has a port that can be one, or none."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def sender(value: str | None) -> str | None:
    """Return whom mail is from."""
    if value is not None and (SENDER.fullmatch(value) is None or not value.isprintable()):
        raise ValueError("it must be an address, as accounts@example.com or Accounts <accounts@example.com>")
    return value


def list_of_them(value: str, info: "ValidationInfo") -> str:
    """Return a setting that takes several."""
    is_one, words = LISTS[str(info.field_name)]
    for one in listed(value):
        if not is_one(one):
            raise ValueError(f"{one[:100]!r} is not {words}")
    return value
