"""Parts of a request, for a trace of it. Where nobody traces, nothing of this is done, and nothing imported."""

import os
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from api import __version__
from api.core.errors import BadSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

# Who traces the request that is being answered.
TRACER: Final["ContextVar[Tracer | None]"] = ContextVar("tracer", default=None)
NOTHING: Final = nullcontext()
# Seconds that a collector has for what is sent to it.
PATIENCE: Final = 5


def provider_of(endpoint: str) -> "TracerProvider":
    """Return what makes traces and sends them to this collector.

    The SDK reads the rest from its own variables (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, …).

    Raises:
        BadSettings: It is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise BadSettings(
            "APICTL_OTLP_ENDPOINT is set, and what traces is not installed",
            cause=str(error),
            hint="pip install 'opentelemetry-exporter-otlp-proto-http>=1.45,<2'",
        ) from None
    named = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or "apictl", "service.version": __version__}
    # Its own way to end waits as long as the collector does.
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    url = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=PATIENCE)))
    return provider


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
