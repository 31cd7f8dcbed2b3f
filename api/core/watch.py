"""What becomes of a process's requests, for whoever watches it. HTTP only, and no web framework.

Routes leave what is worth telling in the request's state: `failure` (an error code), `user_id`.
"""

from time import perf_counter
from typing import Any, Self

from api.core.logs import Lines


class Watch:
    """Sees each request begin and end; on the way of all of them, so it does little."""

    def __init__(self, lines: Lines | None) -> None:
        self._lines = lines

    @classmethod
    def of_this_process(cls) -> Self | None:
        """Return what this process is watched by; None: nobody wants to know."""
        lines = Lines.of_requests()
        return cls(lines) if lines is not None else None

    def begin(self) -> float:
        """Return when a request began."""
        return perf_counter()

    def end(self, scope: dict[str, Any] | Any, began: float) -> None:
        """Take note of a request that has been answered, or whose client has gone."""
        seconds = perf_counter() - began
        if self._lines is not None:
            self._lines.request(scope, scope["state"].get("status", 500), seconds)
