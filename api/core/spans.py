"""Parts of a request, for a trace of it. Where nobody traces, nothing of this is done, and nothing imported."""

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

# Who traces the request that is being answered.
TRACER: Final["ContextVar[Tracer | None]"] = ContextVar("tracer", default=None)
NOTHING: Final = nullcontext()


def span(name: str) -> AbstractContextManager[Any]:
    """Trace the length of a `with` block, as a part of the request."""
    tracer = TRACER.get()
    return NOTHING if tracer is None else begun(tracer, name)


def statement(text: str) -> AbstractContextManager[Any]:
    """Trace a statement, which has no values in its text."""
    tracer = TRACER.get()
    return NOTHING if tracer is None else begun(tracer, verb(text), **attributes(text))


def begun(tracer: "Tracer", name: str, **found: str) -> AbstractContextManager[Any]:
    """Begin a part; of what it raises, only the kind is told: its words may have values in them."""
    return tracer.start_as_current_span(name, attributes=found, record_exception=False, set_status_on_exception=False)


def verb(text: str) -> str:
    """Return what a statement does, in a word."""
    return text.lstrip().partition(" ")[0].upper()[:20]


def attributes(text: str) -> dict[str, str]:
    """Return what a trace has of a statement, by OpenTelemetry's names."""
    return {
        "db.system.name": "postgresql",
        "db.operation.name": verb(text),
        "db.query.text": " ".join(text.split())[:2000],
    }
