"""The application: every feature's router, one line each, and what the process opens and closes."""

import importlib.util
import logging
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import orjson
from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.staticfiles import StaticFiles

from api import __version__
from api.api_keys.router import router as api_keys
from api.audit.dependencies import on_refusal
from api.audit.refusals import REFUSALS
from api.audit.router import router as audit
from api.bulk.router import router as bulk
from api.config import Settings
from api.core import problems
from api.core.cors import Cors
from api.core.dependencies import SAFE, get_dry_run, refuse_dry_run, require_read, takes
from api.core.errors import BadSettings
from api.core.front import Application
from api.core.metrics import FOLDER_VARIABLE, Metrics
from api.core.pages import Html
from api.core.proxies import Forwarded
from api.core.runtime import Runtime
from api.core.spans import provider_of
from api.core.tracing import tracing
from api.devices.router import oauth as device_authorization
from api.devices.router import router as devices
from api.doctor.router import router as doctor
from api.factors.router import router as factors
from api.health.router import router as health
from api.idempotency import replies
from api.idempotency.service import KEY
from api.mail.worker import NOT_SENT, working
from api.migrations.revisions import head
from api.migrations.router import router as migrations
from api.migrations.servers import announced
from api.oauth.router import router as oauth
from api.roles.router import router as roles
from api.self_service.router import router as self_service
from api.service_accounts.router import router as service_accounts
from api.signing_keys.router import router as signing_keys
from api.state.router import router as state
from api.state.schemas import MAX_BYTES
from api.tokens.dependencies import get_session_once
from api.tokens.keys import Keys
from api.tokens.router import oauth as token_endpoint
from api.tokens.router import router as tokens
from api.urls import listed
from api.users.router import router as users

log: Final = logging.getLogger("apictl")
ROUTERS: Final[tuple[APIRouter, ...]] = (
    health,
    token_endpoint,
    tokens,
    oauth,
    device_authorization,
    devices,
    factors,
    users,
    self_service,
    bulk,
    service_accounts,
    roles,
    api_keys,
    signing_keys,
    state,
    migrations,
    audit,
    doctor,
)


# Balancers add what they like; and OAuth endpoints ignore what they do not know (RFC 6749, section 3.2).
LENIENT: Final = (health, token_endpoint, oauth, device_authorization)

# What may take longer than APICTL_REQUEST_TIMEOUT, and why. Its statements have their limits all the same, but where a
# patient engine carries them out.
LONG_WORK: Final = {
    ("POST", "/v1/bulk/users"): "a file of any length is one transaction, by a patient engine",
    ("POST", "/v1/plan"): "a state is compared as a whole, with accounts by the thousand",
    ("POST", "/v1/apply"): "a state is applied as a whole or not at all",
    ("POST", "/v1/audit/verification"): "the whole log is looked through, by a patient engine; three at once a process",
    ("POST", "/v1/migrations/upgrade"): "migrations take as long as they take, by a patient engine",
}

TAGS: Final = (
    {"name": "users", "description": "People and machines with an account; your own is `/v1/users/me`."},
    {
        "name": "accounts by mail",
        "description": "Registering, inviting, a forgotten password, and addresses: by a link that is good once.",
    },
    {"name": "files of users", "description": "Many users at once, CSV or JSONL."},
    {"name": "tokens", "description": "Logging in, and the sessions that every access and refresh token hangs on."},
    {"name": "oauth", "description": "For OAuth clients and resource servers, by the RFCs."},
    {"name": "devices", "description": "Terminals and the like, which somebody lets act for them (RFC 8628)."},
    {"name": "second factors", "description": "What a login needs besides a password."},
    {"name": "service accounts", "description": "Accounts of machines; otherwise users like everybody."},
    {"name": "api keys", "description": "What scripts authenticate with: good for some of what their owner may do."},
    {"name": "roles", "description": "Named sets of scopes, who has them, and what they decide."},
    {"name": "signing keys", "description": "What access tokens are signed with, and verified by others."},
    {"name": "state", "description": "What there should be, in one file: planned, applied, exported."},
    {"name": "migrations", "description": "The version of the database's schema."},
    {"name": "audit log", "description": "Who did what to whom, by which door; chained, so that a change of it shows."},
    {"name": "health", "description": "For load balancers and those who watch."},
)


def create_app(settings: Settings | None = None, *, announce: bool = True) -> FastAPI:
    """Return the application; it opens nothing before its lifespan starts.

    Args:
        settings: The settings; from the environment, if there are none.
        announce: Have the database know that this server lives, for whoever migrates.

    Raises:
        BadSettings: The secret key is missing or weak, or another setting cannot work.
    """
    settings = settings or Settings.load()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Runtime.open(app.state.settings) as runtime, deadlines.kept(app.state.settings.request_timeout):
            app.state.runtime = runtime
            # Of the database, when it was last looked whether it can be served.
            app.state.revisions = None
            async with (
                announced(runtime) if announce else nullcontext(),
                working(runtime, app.state.keys.links) if sends_mail(app.state.settings) else nullcontext(),
                app.state.metrics.kept(runtime, {"apictl_mails": NOT_SENT}) if app.state.metrics else nullcontext(),
                tracing(app.state.traces, runtime) if app.state.traces else nullcontext(),
            ):
                yield

    app = Application(
        title="apictl",
        version=__version__,
        summary="Users, tokens and migrations, over HTTP and from the terminal, by the same rules.",
        public_url=settings.public_url,
        allowed_hosts=listed(settings.allowed_hosts),
        lifespan=lifespan,
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        # A redirect would drop the Authorization header on the way.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings = settings
    app.state.metrics = settings.metrics_port and Metrics(
        settings.metrics_port, revision=head() or "", folder=os.environ.get(FOLDER_VARIABLE)
    )
    app.state.traces = provider_of(settings.otlp_endpoint) if settings.otlp_endpoint else None
    app.state.keys = Keys.load(settings)
    deadlines = app.deadlines
    app.long_work = LONG_WORK
    app.max_body_bytes = settings.max_body_bytes
    app.long_bodies["POST", "/v1/bulk/users"] = settings.max_import_bytes
    for path in ("/v1/plan", "/v1/apply"):
        app.long_bodies["POST", path] = max(settings.max_body_bytes, MAX_BYTES)
    if origins := listed(settings.cors_origins):
        app.add_middleware(Cors, origins=origins)
    if proxies := listed(settings.trusted_proxies):
        app.add_middleware(Forwarded, proxies=proxies)
    problems.install(app)
    replies.install(app)
    for refusal in REFUSALS:
        app.add_exception_handler(refusal, on_refusal)
    for router in ROUTERS:
        app.include_router(router, dependencies=[] if router in LENIENT else [Depends(require_read)])
    install_docs(app)
    return app


class Files(StaticFiles):
    """Files that a browser keeps, and asks about: Swagger's script is a megabyte and a half."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def sends_mail(settings: Settings) -> bool:
    """Tell whether a server sends the mails that are queued; where it cannot, the log says so."""
    if settings.work_in_serve and settings.mail_url is None:
        log.info("APICTL_SMTP_URL is not set: no mail is sent from here")
    return settings.work_in_serve and settings.mail_url is not None


def install_docs(app: FastAPI) -> None:
    """Serve /docs with files of our own: it works without the internet, and runs nobody else's scripts."""
    package = importlib.util.find_spec("fastapi_offline")
    if package is None or package.origin is None:
        raise BadSettings("The files of the docs page are missing", hint="pip install fastapi-offline")
    app.mount("/docs/files", Files(directory=Path(package.origin).parent / "static"), name="docs-files")
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="apictl",
        oauth2_redirect_url="/docs/oauth2-redirect",
        swagger_js_url="/docs/files/swagger-ui-bundle.js",
        swagger_css_url="/docs/files/swagger-ui.css",
        swagger_favicon_url="/docs/files/favicon.png",
        swagger_ui_parameters={
            "displayRequestDuration": True,
            # The list of schemas below the operations; each is shown where it is used.
            "defaultModelsExpandDepth": -1,
        },
    )
    # Swagger's own styles stand in the elements, and its icons in the page.
    own = Html(bytes(page.body).decode(), script="'self'", style="'self' 'unsafe-inline'", image="'self' data:")
    redirect = Html(bytes(get_swagger_ui_oauth2_redirect_html().body).decode())

    @app.get("/", include_in_schema=False)
    async def index() -> RedirectResponse:
        # The address that a person clicks first.
        return RedirectResponse("/docs")

    written: list[bytes] = []

    # Not FastAPI's own, which writes its 200 KB anew for each who asks. Made when somebody first asks, in no thread of
    # its own: FastAPI's caches of a route's fields, which requests use too, do not stand two at once.
    @app.get("/openapi.json", include_in_schema=False, name="openapi")
    async def openapi_document() -> Response:
        if not written:
            written.append(orjson.dumps(app.openapi()))
        return Response(written[0], media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return own.response()

    @app.get("/docs/oauth2-redirect", include_in_schema=False)
    async def docs_redirect() -> Response:
        return redirect.response()

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema


def describe_changes(operation: dict[str, Any]) -> None:
    """Add the headers of an operation that may change something."""
    text = "`dry-run`: everything is done, answered, and undone (RFC 7240)."
    prefer = {"name": "Prefer", "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
    operation.setdefault("parameters", []).append(prefer)
    told: dict[str, tuple[str, dict[str, Any]]] = {
        "Apictl-Changed": ("`true` or `false`: whether anything was changed.", {"enum": ["true", "false"]}),
        "Preference-Applied": ("`dry-run`, where that was asked for: all of it is undone.", {"const": "dry-run"}),
    }
    for status, answer in operation["responses"].items():
        if status < "300":
            answer["headers"] = {
                name: {"description": text, "schema": {"type": "string"} | form} for name, (text, form) in told.items()
            }


def describe_once(operation: dict[str, Any]) -> None:
    """Add the headers of an operation that is done once under a key of its sender's."""
    text = "A UUID of yours: sent again with it, within a day, this is not done again, and answered as it was then."
    key = {"name": "Idempotency-Key", "in": "header", "required": False, "description": text}
    schema = {"type": "string", "pattern": f"^{KEY.pattern}$"}
    operation.setdefault("parameters", []).append(key | {"schema": schema})
    replayed = {"description": "`true`: it was done before, under this key.", "schema": {"const": "true"}}
    for status, answer in operation["responses"].items():
        if status < "300":
            answer.setdefault("headers", {})["Idempotency-Replayed"] = replayed
    for status, failure in problems.responses(400, 409, 422).items():
        operation["responses"].setdefault(str(status), failure)


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the one form of failure in place of FastAPI's."""
    schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes, tags=[*TAGS])
    for path in schema["paths"].values():
        for operation in path.values():
            # The handler's own words say more than its name in capitals.
            operation["summary"] = re.split(r"[;:.] |\.?\n|\.$", operation["description"])[0].replace("`", "")
            # A route that answers with it says so; the others have their own form for it (`tokens.route`).
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for route in iter_route_contexts(app.routes):
        # A plan only reads, although it is a POST.
        if not isinstance(route.original_route, APIRoute) or route.name == "plan":
            continue
        for method in (route.methods or set()) - SAFE:
            operation = schema["paths"][route.path][method.lower()]
            if takes(route.dependant, get_dry_run) and not takes(route.dependant, refuse_dry_run):
                describe_changes(operation)
            if takes(route.dependant, get_session_once):
                describe_once(operation)
    schemas = schema["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(document.pop("$defs"))
    schemas["Problem"] = document
    return schema
