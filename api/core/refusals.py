"""What HTTP itself refuses, whatever a request asks for."""

from api.core.errors import ApictlError, Kind


class MethodNotAllowed(ApictlError):
    """The path exists, the method does not."""

    kind = Kind.METHOD
    code = "method-not-allowed"
    title = "This address does not take that method"
    default_hint = "the header Allow names those that it does"


class UnsupportedMediaType(ApictlError):
    """The body is of a type that this route does not read."""

    kind = Kind.MEDIA_TYPE
    code = "unsupported-media-type"
    title = "The body is of a type that this address does not read"


class HeadTooLarge(ApictlError):
    """The headers of a request are over the limit, by their size or by their number."""

    kind = Kind.HEAD_TOO_LARGE
    code = "head-too-large"
    title = "The headers of the request are too large, or too many"


class TargetTooLong(ApictlError):
    """The address of a request is over the limit."""

    kind = Kind.TARGET_TOO_LONG
    code = "target-too-long"
    title = "The address of the request is too long"


class RequestTooSlow(ApictlError):
    """A request does not come to its end."""

    kind = Kind.TOO_SLOW
    code = "request-too-slow"
    title = "The request came too slowly"


class UnknownHost(ApictlError):
    """The request names another server than this one (RFC 9110, section 7.4)."""

    kind = Kind.MISDIRECTED
    code = "unknown-host"
    title = "This server does not go by the name that the request has for it"
    default_hint = "set APICTL_ISSUER to the public URL; APICTL_ALLOWED_HOSTS takes further names"
