"""What becomes of a process's requests, for whoever watches it. HTTP only.

Routes leave what is worth telling in the request's state: `failure` (an error code), `grant`, `user_id`.
"""

from time import perf_counter
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.core.logs import Lines
from api.core.metrics import Metrics
from api.core.tracing import Traced


def watched(app: ASGIApp, metrics: Metrics | None, provider: Any) -> ASGIApp:
    """Return the application as it is watched: itself, where nobody wants to know anything."""
    if provider is not None:
        app = Traced(app, provider)
    lines = Lines.of_requests()
    return app if lines is None and metrics is None else Watch(app, lines, metrics)


class Watch:
    """Sees each request begin and end. All of them come this way: what it does is written out, and not called."""

    def __init__(self, app: ASGIApp, lines: Lines | None, metrics: Metrics | None) -> None:
        self._app = app
        self._lines = lines
        self._metrics = metrics
        # None is no port of any server.
        self._port = metrics and metrics.port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics = self._metrics
        if metrics is not None:
            if (scope.get("server") or (None, None))[1] == self._port:
                # Another listener, on which nothing else is.
                await show(metrics, scope, receive, send)
                return
            metrics.in_flight += 1
        began = perf_counter()
        try:
            await self._app(scope, receive, send)
        finally:
            seconds = perf_counter() - began
            state: dict[str, Any] = scope["state"]
            status = state.get("status", 500)
            if metrics is not None:
                metrics.in_flight -= 1
                metrics.answered(scope["method"], scope.get("route"), status, seconds)
                if "failure" in state:
                    metrics.failed(state["failure"])
                if "grant" in state:
                    metrics.granted(state["grant"], state.get("failure", "granted"))
            if self._lines is not None:
                self._lines.request(scope, status, seconds)


async def show(metrics: Metrics, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer on the port of the numbers."""
    answer = PlainTextResponse("The numbers are at /metrics.\n", 404)
    if (scope["method"], scope["path"]) == ("GET", "/metrics"):
        version = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        answer = PlainTextResponse(metrics.exposition(), headers=version)
    await answer(scope, receive, send)
