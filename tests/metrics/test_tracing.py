"""Traces, as a collector gets them: of what was done, without values; and a collector that hangs slows nobody."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Final

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from api.core.errors import BadSettings
from api.core.spans import provider_of
from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER
from tests.postgres.machine import until
from tests.support.processes import Apictl
from tests.support.server import serving

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = f"00-{TRACE}-00f067aa0ba902b7-01"


class Collector:
    """What a collector got: the spans of every batch, and the bytes; it may never answer."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.raw = b""
        self.ended = Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if hangs:
                    collector.ended.wait(60)
                    return
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, body: bytes) -> None:
        found = ExportTraceServiceRequest.FromString(body)
        self.raw += body
        for resource in found.resource_spans:
            self.resources.append(values(resource.resource.attributes))
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def named(self, name: str) -> Any:
        return next((span for span in self.spans if span.name == name), None)

    @contextmanager
    def running(self) -> Iterator["Collector"]:
        thread = Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            self._server.shutdown()
            self._server.server_close()


def values(attributes: Any) -> dict[str, str]:
    return {one.key: str(one.value.int_value or one.value.string_value) for one in attributes}


def test_what_a_collector_gets(apictl: Apictl, environment: dict[str, str], superuser: User) -> None:
    with Collector().running() as collector:
        own = environment | {"APICTL_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with (
            serving("serve", environment=own | {"NO_PROXY": "127.0.0.1"}, start=apictl.start) as server,
            httpx2.Client(base_url=server.url, trust_env=False) as client,
        ):
            form = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}
            token = client.post("/v1/auth/token", data=form).raise_for_status().json()["access_token"]
            asking = {"Authorization": f"Bearer {token}", "traceparent": PARENT, "X-Request-Id": "mine-1"}
            assert client.get("/v1/users/me", headers=asking).status_code == 200
            assert (
                client.get(f"/v1/users/{SUPERUSER}", headers=asking | {"traceparent": "00-CANARY"}).status_code == 200
            )
            assert client.get("/v1/users/CANARY@example.com", headers=asking).status_code == 404
            until(lambda: len([one for one in collector.spans if one.kind == 2]) >= 4, "the requests did not come")
            server.end()
    me = collector.named("GET /v1/users/me")
    found = values(me.attributes)
    assert found == {
        "http.request.method": "GET",
        "http.response.status_code": "200",
        "http.route": "/v1/users/me",
        "apictl.request_id": "mine-1",
        "user.id": str(superuser.id),
    }
    # A stranger's trace is named, and not joined.
    assert (me.trace_id.hex() != TRACE, me.parent_span_id, me.links[0].trace_id.hex()) == (True, b"", TRACE)
    refused = [values(one.attributes) for one in collector.spans if one.name == "GET /v1/users/{user}"]
    assert [one.get("error.type") for one in refused] == [None, "user-not-found"]
    login = collector.named("POST /v1/auth/token")
    parts = [one for one in collector.spans if one.trace_id == login.trace_id and one.parent_span_id == login.span_id]
    assert "password hash" in {one.name for one in parts}
    assert all(part.end_time_unix_nano >= part.start_time_unix_nano for part in parts)
    # By both ways to the database.
    shown = next(one for one in collector.spans if one.name == "GET /v1/users/{user}")
    texts = [
        values(one.attributes)["db.query.text"]
        for one in collector.spans
        if one.trace_id == shown.trace_id and one.kind == 1
    ]
    assert len(texts) == 2
    assert any("FROM users" in text for text in texts)
    assert collector.resources[0]["service.name"] == "apictl"
    for secret in ("CANARY", PASSWORD, token, SUPERUSER):
        assert secret.encode() not in collector.raw


def test_a_collector_that_hangs_slows_nobody(apictl: Apictl, environment: dict[str, str]) -> None:
    with Collector(hangs=True).running() as collector:
        own = environment | {"APICTL_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "1"}
        with (
            serving("serve", environment=own | {"NO_PROXY": "127.0.0.1"}, start=apictl.start) as server,
            httpx2.Client(base_url=server.url, trust_env=False) as client,
        ):
            client.get("/health/ready")
            began = time.monotonic()
            for _ in range(200):
                assert client.get("/health/live").status_code == 200
            assert time.monotonic() - began < 3
            began = time.monotonic()
            code, printed = server.end()
            # It takes its leave, and does not wait for an answer.
            assert (code, time.monotonic() - began < 5) == (143, True), printed


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(BadSettings) as refused:
        provider_of("http://127.0.0.1:4318")
    assert "pip install 'opentelemetry-exporter-otlp-proto-http" in str(refused.value.hint)


def test_nothing_of_it_is_loaded_unasked() -> None:
    program = "import sys, api.main; print(*[one for one in sys.modules if one.startswith('opentelemetry.sdk')])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""
