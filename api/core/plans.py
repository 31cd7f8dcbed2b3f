"""A short way from a request to its route's function: what FastAPI works out for each request, worked out once.

FastAPI looks for the route, and walks the tree of its dependencies, anew for each request; that takes several times as
long as what most of our routes do. A plan is read from FastAPI's own description of a route, values are validated by
its own functions, and what a plan does not know (a sync function, a cookie, a background task) makes none: such a
route goes FastAPI's own way, which `core.front` has too. The minor version of FastAPI is pinned because of this module.
"""

import asyncio
import inspect
import json
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, NamedTuple

from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_body_to_args, request_params_to_args
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.params import Form
from fastapi.routing import APIRoute, RouteContext
from fastapi.utils import is_body_allowed_for_status_code
from pydantic_core import PydanticUndefined
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.core.answers import Answer, flat, plainly
from api.core.forms import Model
from api.core.problems import is_json

# No value: a dependency that could not be called, because what it takes was refused.
MISSING: Final = object()
NO_QUERY: Final = QueryParams()
Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class NoPlanError(Exception):
    """The route needs something that a plan does not know."""


class Step(NamedTuple):
    """One function to call, and where its arguments come from.

    Attributes:
        call: A coroutine function, or an asynchronous generator's.
        is_generator: Whether it is the latter, and goes on when the route's function has ended.
        takes: Names of arguments, and which earlier step gives each of them.
        request: The name of the argument that is the request; and `response` likewise.
        path: The parameters that come from there; and `query`, `headers` and `body` likewise.
        query_model: The one schema that takes the whole of a query, if there is one; and `form_model` of a form.
        is_sent: Whether something of what was sent is an argument.
    """

    call: Callable[..., Any]
    is_generator: bool
    takes: tuple[tuple[str, int], ...]
    request: tuple[str, ...]
    response: str | None
    path: Sequence[Any]
    query: Sequence[Any]
    headers: Sequence[Any]
    body: Sequence[Any]
    query_model: Model | None
    form_model: Model | None
    is_sent: bool


class Plan:
    """The way to one route's function, and back with what it returns."""

    def __init__(self, context: RouteContext) -> None:
        """Read FastAPI's description of the route.

        Raises:
            NoPlanError: There is something in it that no plan knows.
        """
        route = context.original_route
        if not isinstance(route, APIRoute):
            raise NoPlanError
        # Who handles requests in a way of their own says so for a plan as well.
        around = getattr(route, "around", None)
        if around is None and type(route).get_route_handler is not APIRoute.get_route_handler:
            raise NoPlanError
        # Whoever names the class Response returns one.
        is_usual = isinstance(context.response_class, DefaultPlaceholder) or context.response_class is Response
        if not is_usual or context.stream_item_field is not None:
            raise NoPlanError
        self.route = route
        # It has no deadline from when its body has come, if the plan reads one: who has shown nothing yet may not make
        # that last.
        self.is_long = False
        self._field = context.response_field
        # As `serialize_json` of it takes them.
        self._shape = {
            name: getattr(context, f"response_model_{name}")
            for name in ("include", "exclude", "by_alias", "exclude_unset", "exclude_defaults", "exclude_none")
        }
        is_whole = self._shape == dict.fromkeys(self._shape, False) | {
            "include": None,
            "exclude": None,
            "by_alias": True,
        }
        self._flat = flat(context.response_field.field_info.annotation) if context.response_field and is_whole else None
        self._has_body = context.body_field is not None
        self._status: int = context.status_code or 200
        self._is_form = context.body_field is not None and isinstance(context.body_field.field_info, Form)
        self._steps: list[Step] = []
        self._places: dict[Any, int] = {}
        self._add(context.dependant)
        *self._before, self._last = self._steps
        self._has_generators = any(step.is_generator for step in self._before)
        self._takes_response = any(step.response for step in self._steps)
        self.handle: Handle = around(self._handle) if around is not None else self._handle

    def _add(self, dependant: Dependant) -> int:
        call = dependant.call
        takes = [(inner.name, self._add(inner)) for inner in dependant.dependencies]
        if call in self._places:
            return self._places[call]
        is_generator = inspect.isasyncgenfunction(call)
        if call is None or not (is_generator or is_coroutine(call)) or (is_generator and dependant.scope != "function"):
            raise NoPlanError
        if (
            dependant.cookie_params
            or dependant.websocket_param_name
            or dependant.background_tasks_param_name
            or dependant.security_scopes_param_name
            or dependant.own_oauth_scopes
            or dependant.concurrency
            or not dependant.use_cache
        ):
            raise NoPlanError
        names = (dependant.request_param_name, dependant.http_connection_param_name)
        self._steps.append(
            Step(
                call=call,
                is_generator=is_generator,
                takes=tuple((name, place) for name, place in takes if name is not None),
                request=tuple(name for name in names if name),
                response=dependant.response_param_name,
                path=dependant.path_params,
                query=dependant.query_params,
                headers=dependant.header_params,
                body=dependant.body_params,
                query_model=Model.of(dependant.query_params),
                form_model=Model.of(dependant.body_params),
                is_sent=any(
                    (dependant.path_params, dependant.query_params, dependant.header_params, dependant.body_params)
                ),
            )
        )
        self._places[call] = len(self._steps) - 1
        return self._places[call]

    async def _handle(self, request: Request) -> Response:
        body = await self._body(request) if self._has_body else PydanticUndefined
        if self.is_long:
            request.app.deadlines.lift(asyncio.current_task())
        asked = Response() if self._takes_response else None
        if asked is not None:
            del asked.headers["content-length"]
            asked.status_code = 0
        try:
            if not self._has_generators:
                return self._response(await self._run(request, body, asked, None), asked)
            state = request.scope["state"]
            # Whoever has a transaction may want to keep the answer in it.
            state["keep"] = None
            async with AsyncExitStack() as stack:
                # Before they end: a transaction whose answer cannot be written is undone.
                response = self._response(await self._run(request, body, asked, stack), asked)
                if state["keep"] is not None:
                    await state["keep"](response)
                return response
        finally:
            if self._is_form:
                await request.close()

    def _response(self, answer: Any, asked: Response | None) -> Response:
        if isinstance(answer, Response):
            return answer
        status = (asked is not None and asked.status_code) or self._status
        content = self._serialized(answer)
        response = Answer(content, status) if is_body_allowed_for_status_code(status) else Response(status_code=status)
        if asked is not None:
            response.raw_headers.extend(asked.raw_headers)
        return response

    async def _run(self, request: Request, body: Any, response: Response | None, stack: AsyncExitStack | None) -> Any:
        """Call every step, the route's own function last, and return what that returns.

        Raises:
            RequestValidationError: A value was refused; all that were are named.
        """
        errors: list[Any] = []
        values: list[Any] = []
        arguments: dict[str, Any] | None
        for step in self._before:
            if step.is_sent or errors:
                arguments = await self._arguments(step, request, body, response, values, errors)
            else:
                # Most are like this one. To await what only makes a dictionary would take as long as to make it.
                arguments = given(step, request, response, values)
            if arguments is None:
                values.append(MISSING)
            elif step.is_generator:
                assert stack is not None  # noqa: S101 - whoever has a generator has one
                values.append(await stack.enter_async_context(asynccontextmanager(step.call)(**arguments)))
            else:
                values.append(await step.call(**arguments))
        arguments = await self._arguments(self._last, request, body, response, values, errors)
        if arguments is None or errors:
            raise RequestValidationError(errors, body=None if body is PydanticUndefined else body)
        return await self._last.call(**arguments)

    @staticmethod
    async def _arguments(
        step: Step, request: Request, body: Any, response: Response | None, values: list[Any], errors: list[Any]
    ) -> dict[str, Any] | None:
        """Return a step's arguments; None, with more errors, if one of them was refused, or could not be made."""
        arguments = given(step, request, response, values)
        if not step.is_sent:
            return None if MISSING in arguments.values() else arguments
        found: list[Any] = []
        if step.path:
            arguments |= checked(request_params_to_args(step.path, request.path_params), found)
        if step.query_model is not None:
            sent = request.query_params if request.scope["query_string"] else NO_QUERY
            arguments |= checked(step.query_model.read(sent), found)
        elif step.query:
            arguments |= checked(request_params_to_args(step.query, request.query_params), found)
        if step.headers:
            arguments |= checked(request_params_to_args(step.headers, request.headers), found)
        if step.form_model is not None:
            arguments |= checked(step.form_model.read(body), found)
        elif step.body:
            arguments |= checked(await request_body_to_args([*step.body], body, embed_body_fields=False), found)
        if found or MISSING in arguments.values():
            errors += found
            return None
        return arguments

    async def _body(self, request: Request) -> Any:
        """Return the body as FastAPI would give it to a schema: a form, what was JSON, or bytes.

        Raises:
            RequestValidationError: It says that it is JSON, and is not.
            HTTPException: It cannot be read.
        """
        if self._is_form:
            return await request.form()
        raw = await request.body()
        if not raw:
            return PydanticUndefined
        if not is_json(request):
            return raw
        try:
            return json.loads(raw)
        except json.JSONDecodeError as error:
            refused = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error", "input": {}}
            raise RequestValidationError([refused], body=error.doc) from error
        except (ValueError, RecursionError) as error:
            raise HTTPException(400) from error

    def _serialized(self, answer: Any) -> bytes:
        if self._field is None:
            return bytes(JSONResponse(jsonable_encoder(answer)).body)
        if type(answer) is self._flat:
            written = plainly(answer)
            if written is not None:
                return written
        value, errors = self._field.validate(answer, {}, loc=("response",))
        if errors:
            raise ResponseValidationError(errors=errors, body=answer)
        content: bytes = self._field.serialize_json(value, **self._shape)
        return content


def given(step: Step, request: Request, response: Response | None, values: list[Any]) -> dict[str, Any]:
    """Return those of a step's arguments that nobody sends."""
    arguments = {name: values[place] for name, place in step.takes}
    for name in step.request:
        arguments[name] = request
    if step.response is not None:
        arguments[step.response] = response
    return arguments


def is_coroutine(call: Any) -> bool:
    """Tell whether it is a coroutine function, or an object that is called as one."""
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


def checked(found: tuple[dict[str, Any], list[Any]], errors: list[Any]) -> dict[str, Any]:
    """Return the values; note what was refused."""
    values, refused = found
    errors += refused
    return values
