"""Traces of requests, sent to the collector that the settings name: OpenTelemetry, by OTLP over HTTP. HTTP only.

They are made by hand, in four places: here, `core.direct`, `core.passwords` and the engine's events. What is sent is
sent by a thread of the SDK, whose queue has an end: a collector that hangs costs traces, and no request its time.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event
from starlette.types import ASGIApp, Receive, Scope, Send

from api import __version__
from api.core.runtime import Runtime
from api.core.spans import TRACER, attributes, verb

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# Seconds that a collector has for the rest when the process ends.
LAST: Final = 2


class Traced:
    """The application, with a trace of each request."""

    def __init__(self, app: ASGIApp, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._app = app
        self._tracer = provider.get_tracer("apictl", __version__)
        self._reader = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415 - it is loaded by now

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        TRACER.set(self._tracer)
        method = scope["method"]
        with self._tracer.start_as_current_span(
            method,
            kind=SpanKind.SERVER,
            links=self._links(scope),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                await self._app(scope, receive, send)
            finally:
                state, route = scope.get("state", {}), scope.get("route")
                status = state.get("status", 500)
                found = {"http.request.method": method, "http.response.status_code": status}
                if route is not None:
                    span.update_name(f"{method} {route.path}")
                    found["http.route"] = route.path
                for ours, theirs in (
                    ("request_id", "apictl.request_id"),
                    ("user_id", "user.id"),
                    ("failure", "error.type"),
                ):
                    if state.get(ours) is not None:
                        found[theirs] = str(state[ours])
                span.set_attributes(found)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))

    def _links(self, scope: Scope) -> list[Any]:
        """Return a link to the trace that the client says it is a part of.

        Not its parent: anybody could have us trace what we would not, or write into somebody else's trace.
        """
        from opentelemetry.trace import Link, get_current_span  # noqa: PLC0415 - as above

        for name, value in scope["headers"]:
            if name == b"traceparent":
                context = get_current_span(
                    self._reader.extract({"traceparent": value.decode("latin-1")})
                ).get_span_context()
                return [Link(context)] if context.is_valid else []
        return []


@asynccontextmanager
async def tracing(provider: "TracerProvider", runtime: Runtime) -> AsyncIterator[None]:
    """Trace what the engine does, for the length of a `with` block, and send the rest at its end, if that is quick."""
    engine = runtime.engine.sync_engine

    def before(_connection: Any, _cursor: Any, text: str, _values: Any, context: Any, _many: Any) -> None:
        tracer = TRACER.get()
        if tracer is not None and context is not None:
            context.apictl_span = tracer.start_span(verb(text), attributes=attributes(text))

    def after(*called: Any) -> None:
        finish(called[4])

    def failed(found: Any) -> None:
        finish(found.execution_context)

    def finish(context: Any) -> None:
        span = getattr(context, "apictl_span", None)
        if span is not None:
            span.end()

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "handle_error", failed)
    try:
        yield
    finally:
        # Nobody waits for a collector that does not answer, the end of the process neither.
        sending = threading.Thread(target=provider.shutdown, daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, LAST)
