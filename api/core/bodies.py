"""What the body of a request may be, and how it comes. HTTP only."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from api.core.errors import ApictlError, BadRequest, BodyTooLarge, RequestTimeout
from api.core.refusals import RequestTooSlow


def refusal(scope: Scope, length: bytes | None, coding: bytes | None, most: int) -> ApictlError | None:
    """Return why a body is not even read; None if it is."""
    if coding is not None and (
        length is not None or coding.lower() != b"chunked" or scope.get("http_version") == "1.0"
    ):
        # Who stands in front may have found its end elsewhere (RFC 9112, section 6.3).
        return BadRequest("Only Content-Length, or only Transfer-Encoding: chunked, may say where the body ends")
    # By its length first: a number of thousands of digits is none that int() would take.
    if length is not None and (len(length) > 12 or not length.isdigit() or int(length) > most):
        return BodyTooLarge(f"The body may have at most {most} bytes")
    return None


def counted(receive: Receive, most: int, state: dict[str, Any]) -> Receive:
    """Return a `receive` that ends when more has come than may, declared or not; and notes when all of it has come.

    FastAPI has a limit of its own, but answers in plain text, outside the one form of failure.
    """
    seen = 0

    async def count() -> Message:
        nonlocal seen
        state["is_coming"] = True
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            # FastAPI takes any other exception here for a body that it cannot parse.
            raise HTTPException(413, headers={"Connection": "close"})
        state["is_coming"] = message.get("more_body", False)
        return message

    return count


def cut_off(scope: Scope) -> ApictlError:
    """Return why a request has no answer in time: the client's body did not come, or it is our own affair."""
    return RequestTooSlow("Its body did not come in time") if scope["state"]["is_coming"] else RequestTimeout()
