"""How the HTTP door renders failures: RFC 9457 problem details, one form for every route. HTTP only."""

import json
import logging
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.core.errors import (
    ApictlError,
    BadRequest,
    BodyTooLarge,
    InternalError,
    InvalidInput,
    Kind,
    RouteNotFound,
)
from api.core.refusals import MethodNotAllowed, UnsupportedMediaType

log = logging.getLogger("apictl")

BY_STATUS: Final[dict[int, type[ApictlError]]] = {
    404: RouteNotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
}
# Pydantic's word for a body that is no object.
NO_OBJECT: Final = "model_attributes_type"


class FieldProblem(BaseModel):
    """One refused field."""

    model_config = ConfigDict(extra="forbid")

    field: str
    message: str
    code: str


class Problem(BaseModel):
    """A failure, as RFC 9457 has it; `code` is the word to decide by, and it is the terminal's too."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:apictl:problem:user-not-found",
                "title": "There is no such user",
                "status": 404,
                "code": "user-not-found",
                "detail": "There is no user ada@example.com",
                "instance": "/v1/users/ada@example.com",
                "request_id": "01a206a687b170cc81f302355ebcba87",
            }
        }
    )

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    request_id: str
    cause: str | None = None
    hint: str | None = None
    errors: list[FieldProblem] = []


class ProblemResponse(JSONResponse):
    """JSON that can hold whatever came in: a lone surrogate is escaped, where UTF-8 has no form for it."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def response(error: ApictlError, scope: dict[str, Any] | Any) -> JSONResponse:
    """Return the HTTP response of a failure."""
    headers = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.kind is Kind.NOT_AUTHENTICATED:
        headers["WWW-Authenticate"] = error.authenticate
    # A path can hold anything: what is not ASCII is escaped, and no more than a line of it repeated.
    instance = str(scope.get("path", "")).encode("ascii", "backslashreplace").decode()[:200]
    state = scope.get("state", {})
    # For whoever counts requests, and writes a line for each.
    state["failure"] = error.code
    request_id = state.get("request_id", "")
    content = error.problem(instance=instance, request_id=request_id)
    if error.kind.status >= 500:
        # Addresses and accounts of the inside are for the log, not for whoever asks.
        content.pop("cause", None)
        log.error("%s %s: %s (%s)", request_id, error.code, error.detail, error.cause or "no cause known")
    # Said here too: Starlette answers a bug from outside of our middleware.
    headers |= {"X-Request-Id": request_id, "X-Content-Type-Options": "nosniff"}
    return ProblemResponse(content, status_code=error.kind.status, headers=headers, media_type=error.media_type)


async def on_failure(request: Request, error: Exception) -> JSONResponse:
    """Render one of our own failures."""
    assert isinstance(error, ApictlError)  # noqa: S101 - registered for this class only
    return response(error, request.scope)


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Render a refused body, query, path or header, without what was sent: it may be secret, or unprintable."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    if any(item["type"] == "json_invalid" for item in error.errors()):
        return response(BadRequest("The body is not valid JSON"), request.scope)
    if any(item["loc"] == ("body",) and item["type"] == NO_OBJECT for item in error.errors()) and not is_json(request):
        hint = "send Content-Type: application/json"
        return response(UnsupportedMediaType(hint=hint), request.scope)
    return response(InvalidInput.of(error.errors()), request.scope)


def is_json(request: Request) -> bool:
    """Tell whether a body says that it is JSON; FastAPI reads one of another type as text."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    main, _, sub = kind.partition("/")
    return main == "application" and "/" not in sub and (sub == "json" or sub.endswith("+json"))


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Render what Starlette and FastAPI raise on their own."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    failure = BY_STATUS.get(error.status_code)
    if failure is None:
        failure = BadRequest if error.status_code < 500 else InternalError
    answer = response(failure(), request.scope)
    answer.headers.update(error.headers or {})
    if error.status_code == 405 and (route := request.scope.get("route")) is not None:
        # Starlette names the methods of the first route with this path; each of ours has one method.
        same = (found.methods or () for found in iter_route_contexts(request.app.routes) if found.path == route.path)
        answer.headers["Allow"] = ", ".join(sorted(set().union(*same)))
    return answer


async def on_bug(request: Request, error: Exception) -> JSONResponse:
    """Render what nobody expected: an id to look up in the log, and nothing else."""
    # Starlette raises the error again afterwards, and the server logs its traceback.
    bug = InternalError(cause=repr(error), hint="the log has the cause under this request_id")
    return response(bug, request.scope)


async def on_hang_up(request: Request, error: Exception) -> JSONResponse:
    """Answer whoever is no longer there: no bug of ours."""
    del error
    return response(BadRequest("The body did not come to its end"), request.scope)


def install(app: FastAPI) -> None:
    """Give the application these renderers."""
    app.add_exception_handler(ApictlError, on_failure)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(ClientDisconnect, on_hang_up)
    app.add_exception_handler(Exception, on_bug)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries of the failures that a route answers with."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in statuses
    }
