"""The headers that every answer has, and those of pages: what OWASP asks of each kind. HTTP only."""

from typing import Final

from api.core.answers import JSON

Pairs = list[tuple[bytes, bytes]]
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
# Nothing of ours is a page unless it says so: should a browser take it for one, it runs nothing and is in no frame.
POLICY: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# Half of what we answer is somebody's own, and no cache of theirs, or of everybody, should keep it.
NO_STORE: Final = (b"cache-control", b"no-store")
# A year. This host alone: of those below it, and of lists that browsers ship with, somebody else decides.
HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
OURS: Final = (b"x-request-id", NOSNIFF[0])
OWN: Final = {POLICY[0], NO_STORE[0]}
# RFC 7240, section 3.
UNDONE: Final = (b"preference-applied", b"dry-run")
PAGE: Final = {
    # As the policy's frame-ancestors, for browsers that do not know it.
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Content-Type-Options": "nosniff",
}


class Headers:
    """The headers of one server's answers."""

    def __init__(self, *, is_https: bool) -> None:
        self._all = (NOSNIFF, *((HSTS,) if is_https else ()))
        self._usual = (*self._all, POLICY, NO_STORE)

    def added_to(self, given: Pairs, request_id: bytes, *, is_undone: bool) -> Pairs:
        """Return an answer's headers with ours; what a route says of its own caching, or its policy, stays."""
        if len(given) == 2 and given[1] is JSON and not is_undone:
            # Most answers: no route has said anything.
            return [*given, (b"x-request-id", request_id), *self._usual]
        kept = [pair for pair in given if pair[0] not in OURS]
        said = OWN.intersection([name for name, _ in kept])
        kept.append((b"x-request-id", request_id))
        kept += self._usual if not said else [pair for pair in self._usual if pair[0] not in said]
        if is_undone:
            kept.append(UNDONE)
        return kept
