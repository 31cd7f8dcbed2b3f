"""What the head of a request may be: its size, and where it says that it goes. HTTP only."""

from collections.abc import Iterable

import httptools

from api.core.errors import BadRequest
from api.core.refusals import HeadTooLarge, TargetTooLong

# Bytes of a request's address and headers, of its address alone (a cursor's thousand characters take twelve each), and
# the number of headers.
MAX_HEAD, MAX_TARGET, MAX_HEADERS = 32 * 1024, 16 * 1024, 100


def check_size(target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Go on only if a head is within the limits.

    Raises:
        TargetTooLong: Its address is not.
        HeadTooLarge: Its headers are not.
    """
    if len(target) > MAX_TARGET:
        raise TargetTooLong(f"The address may have at most {MAX_TARGET} bytes")
    sizes = [len(name) + len(value) + len(b": \r\n") for name, value in headers]
    if len(sizes) > MAX_HEADERS or len(target) + sum(sizes) > MAX_HEAD:
        raise HeadTooLarge(f"A request may have {MAX_HEADERS} headers and {MAX_HEAD} bytes of them")


def check_target(target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Go on only if an address that is no path is one whose host is the header's too (RFC 9112, section 3.2.2).

    Raises:
        BadRequest: It is not.
    """
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        parsed = None
    if parsed is None or parsed.schema not in {b"http", b"https"} or not parsed.host or parsed.userinfo is not None:
        raise BadRequest("The address of the request is neither a path nor a URL")
    named = target.partition(b"://")[2].partition(b"/")[0].lower()
    if [value.lower() for name, value in headers if name == b"host"] != [named]:
        raise BadRequest("The address of the request and its header Host name two hosts")
