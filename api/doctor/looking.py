"""What the doctor looks at without a database: the configuration, and this machine. A function, and a check, each."""

import shutil
from urllib.parse import urlsplit

from api.config import Settings
from api.core.errors import ApictlError, BadSettings
from api.core.metrics import port_clash
from api.core.secret_key import load_secret_key
from api.core.spans import provider_of
from api.doctor.schemas import Check
from api.postgres.layout import locate
from api.urls import LOOPBACK, ip_of

# Bytes of a disk, below which PostgreSQL will soon stop; and at which it as good as has.
LITTLE, NOTHING = 1 << 30, 64 << 20
# Seconds of a processor that a hash should take: less, and guesses are cheap; more, and logins are slow.
CHEAP, DEAR = 0.008, 0.25


def failed(name: str, error: ApictlError, *, with_cause: bool = True) -> Check:
    """Return the check that ends with this failure."""
    detail = f"{error.detail}: {error.cause}" if error.cause and with_cause else error.detail
    return Check(name=name, status="fail", detail=detail, hint=error.hint, code=error.code)


def is_local(host: str) -> bool:
    """Tell whether only this machine reaches it."""
    found = ip_of(host)
    return host in LOOPBACK or (found is not None and found.is_loopback)


def public_url(settings: Settings) -> Check:
    """Look at what links and tokens say that we are."""
    url, host = settings.issuer, urlsplit(settings.issuer).hostname or ""
    if is_local(host):
        if is_local(settings.listen_host):
            return Check(name="public-url", status="ok", detail=f"{settings.public_url}, for this machine only")
        return Check(
            name="public-url",
            status="warn",
            detail=f"The server listens on {settings.listen_host}, and tokens and links say {url}",
            hint="set APICTL_ISSUER to the URL that people open, https://…",
        )
    if url.startswith("http:"):
        return Check(
            name="public-url",
            status="warn",
            detail=f"{url} is not encrypted: whoever is in between reads passwords and tokens",
            hint="put a proxy with TLS in front, and set APICTL_ISSUER to its https://…",
        )
    return Check(name="public-url", status="ok", detail=url)


def secret_key(settings: Settings) -> Check:
    """Look at whether the secret key is one, and nobody else's."""
    try:
        load_secret_key(settings)
    except BadSettings as error:
        return failed("secret-key", error)
    source = "APICTL_SECRET_KEY" if settings.secret_key is not None else settings.home / "secret_key"
    return Check(name="secret-key", status="ok", detail=f"from {source}")


def metrics(settings: Settings) -> Check:
    """Look at where the numbers are shown."""
    port = settings.metrics_port
    if port is None:
        return Check(name="metrics", status="ok", detail="none: APICTL_METRICS_PORT is not set")
    if port == settings.listen_port != 0:
        return failed("metrics", port_clash(port))
    return Check(name="metrics", status="ok", detail=f"on port {port}")


def traces(settings: Settings) -> Check:
    """Look at whether traces can be made, if somebody wants them."""
    if settings.otlp_endpoint is None:
        return Check(name="traces", status="ok", detail="none: APICTL_OTLP_ENDPOINT is not set")
    try:
        provider_of(settings.otlp_endpoint).shutdown()
    except BadSettings as error:
        return failed("traces", error)
    return Check(name="traces", status="ok", detail="sent to the collector that APICTL_OTLP_ENDPOINT names")


def storage(settings: Settings) -> Check:
    """Look at where the data are, and whether there is room for more."""
    if settings.database_url is not None:
        return Check(name="storage", status="ok", detail="a PostgreSQL of its own, which has its own watch")
    try:
        place = locate(settings.home).place
        folder = next(one for one in (place, *place.parents) if one.exists())
        free = shutil.disk_usage(folder).free
    except ApictlError as error:
        return failed("storage", error)
    told = f"the embedded PostgreSQL in {place}, {free >> 20:,} MiB free"
    if free < NOTHING:
        hint = f"make room there: {folder}"
        return Check(name="storage", status="fail", detail=told, hint=hint, code="database-unreachable")
    if free < LITTLE:
        return Check(name="storage", status="warn", detail=told, hint="make room there before it stops")
    if not is_local(settings.listen_host):
        return Check(
            name="storage",
            status="warn",
            detail=f"{told}; the server listens on {settings.listen_host}",
            hint="for others than yourself, set APICTL_DATABASE_URL to a PostgreSQL that has backups",
        )
    return Check(name="storage", status="ok", detail=told)


def hash_cost(seconds: float, cores: int, *, rounds: int) -> Check:
    """Judge what a password's hash costs on this machine."""
    told = f"{seconds * 1000:.0f} ms a hash, {cores / seconds:.0f} logins a second with {cores} cores"
    if seconds < CHEAP:
        enough = round(rounds * 0.02 / seconds)
        hint = f"this machine can afford more: argon2__time_cost {enough} in api/core/hashes.py; logins take it up"
        return Check(name="hash-cost", status="warn", detail=told, hint=hint)
    if seconds > DEAR:
        hint = "give it more or faster cores; to hash for less would be to be guessed for less"
        return Check(name="hash-cost", status="warn", detail=told, hint=hint)
    return Check(name="hash-cost", status="ok", detail=told)
