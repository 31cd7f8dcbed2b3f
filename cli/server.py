"""Commands that serve: in production, while developing, and for the first five minutes."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.call import Call
from cli.context import command
from cli.logs import begin_log
from cli.secrets import generate
from cli.serving import LONG_GRACE, config, listen, serve_until_told, url
from cli.signals import complete

if TYPE_CHECKING:
    import socket

    from api.config import Settings

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on. Default: APICTL_LISTEN_HOST.")]
Port = Annotated[
    int | None, typer.Option("--port", help="Port; 0 takes a free one. Default: APICTL_LISTEN_PORT.", min=0, max=65535)
]


@command("host")
def serve(
    call: Call,
    host: Host = None,
    port: Port = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes that answer.", min=1, max=64)] = 1,
    *,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Bring the database to this version's schema first.", show_default=False)
    ] = False,
) -> None:
    """Serve the HTTP API in production.

    Refuses to start with a weak secret key, or with a database that lacks a part of this version's schema; one that has
    more than that is served, as long as nothing was taken away that this version uses.

    Example: apictl serve --workers 4
    """
    from api.core.runtime import held_database
    from api.core.secret_key import load_secret_key

    log = begin_log(call)
    load_secret_key(call.settings)
    # Held while serving: an embedded PostgreSQL goes on when a worker is replaced.
    with held_database(call.settings):
        if migrate:
            complete(prepare(call, email=None, password=""))
        complete(check_database(call))
        listening = listen(call, host, port)
        named_after(call, listening[0])
        settings = config(call, listening[0], log, workers=workers, timeout_graceful_shutdown=LONG_GRACE)
        told = f"Serving on {url(listening[0])} with {workers} worker{'s' if workers > 1 else ''} (Ctrl-C stops it)"
        logging.getLogger("apictl").info(told)
        serve_until_told(settings, listening)


@command("host")
def dev(call: Call, host: Host = None, port: Port = None) -> None:
    """Serve the HTTP API while you develop: it reloads when the code changes.

    Starts the embedded PostgreSQL unless a database is configured, and migrates it.

    Example: apictl dev
    """
    from api.core.runtime import held_database
    from api.core.secret_key import load_secret_key

    log = begin_log(call, requests=True)
    listening = listen(call, host, port)
    with held_database(call.settings, create=True):
        load_secret_key(call.settings, create=True)
        complete(prepare(call, email=None, password=""))
        named_after(call, listening[0])
        settings = config(call, listening[0], log, reload=True)
        call.say(f"The first superuser, if there is none: {program()} create-user EMAIL --superuser")
        call.say(f"Serving on {url(listening[0])}, docs at {url(listening[0])}/docs (Ctrl-C stops it)")
        serve_until_told(settings, listening)


@command("host")
def quickstart(
    call: Call,
    email: Annotated[str, typer.Option("--email", help="E-mail address of the first superuser.")] = "admin@example.com",
    host: Host = None,
    port: Port = None,
) -> None:
    """Start everything: PostgreSQL, migrations, the first superuser, the HTTP API.

    What is there already stays as it is; running it again changes nothing.

    Example: apictl quickstart
    """
    from api.core.runtime import held_database
    from api.core.secret_key import load_secret_key
    from api.main import create_app

    log = begin_log(call, requests=True)
    listening = listen(call, host, port)
    # The database first: as root, it decides where its folder is, and how it is opened to the server's account.
    with held_database(call.settings, create=True):
        load_secret_key(call.settings, create=True)
        password = generate()
        created = complete(prepare(call, email=email, password=password))
        settings = named_after(call, listening[0])
        server = config(call, listening[0], log, create_app(settings))
        welcome(call, url(listening[0]), settings.public_url, email if created else None, password)
        serve_until_told(server, listening)


async def check_database(call: Call) -> None:
    """Go on only if the database is at this version's schema, and its signing key can be opened."""
    from api.core.runtime import Runtime
    from api.migrations.state import require_head
    from api.signing_keys.ring import fresh
    from api.tokens.keys import Keys

    async with Runtime.open(call.settings, pool_size=1) as runtime:
        async with runtime.transaction(readonly=True) as session:
            await require_head(session)
        (await fresh(Keys.load(call.settings), runtime, door="cli")).require_signing()


async def prepare(call: Call, *, email: str | None, password: str) -> bool:
    """Migrate the database, and create a superuser with this address if there is none; tell whether it did."""
    from api.core.actor import Actor
    from api.core.runtime import Runtime
    from api.migrations.schemas import MigrationUpgrade
    from api.migrations.service import MigrationService
    from api.signing_keys.ring import fresh
    from api.tokens.keys import Keys
    from api.users.schemas import UserCreate
    from api.users.service import UserService
    from cli.operator import operator_name

    operator = Actor.operator(operator_name())
    async with Runtime.open(call.settings, pool_size=1) as runtime:
        await MigrationService(runtime.transaction, runtime.patient_engine, operator).upgrade(MigrationUpgrade())
        (await fresh(Keys.load(call.settings), runtime, door="cli")).require_signing()
        if email is None:
            return False
        async with runtime.transaction() as session:
            users = UserService(session, operator, runtime.passwords)
            return await users.create_first_superuser(UserCreate(email=email, password=password)) is not None


def named_after(call: Call, listening: "socket.socket") -> "Settings":
    """Return the settings of a server on this socket: unless an issuer is set, links name the port."""
    host, port = listening.getsockname()[:2]
    # A worker, and an application that starts again, read it there.
    os.environ["APICTL_LISTEN_PORT"] = str(port)
    os.environ["APICTL_LISTEN_HOST"] = host
    return call.settings.model_copy(update={"listen_host": host, "listen_port": port})


def welcome(call: Call, address: str, public_url: str, email: str | None, password: str) -> None:
    """Print what a person needs next; the password only when it was made just now."""
    from api.core.connecting import redact

    lines = [f"apictl is running on {address} (Ctrl-C stops everything)", "", f"  API docs     {address}/docs"]
    lines += [f"  own account  {public_url}/account"]
    if call.settings.database_url is not None:
        # It may come from another project's DATABASE_URL: whoever did not mean that sees it here.
        lines += [f"  database     {redact(call.settings.database_url.get_secret_value())}"]
    if email is not None:
        lines += [f"  superuser    {email}", f"  password     {password}   (shown once: keep it)"]
    lines += [
        "",
        "Next, in another terminal, in this folder:",
        "",
        f"  {program()} list-users",
        f"  {program()} create-user grace@example.com --full-name 'Grace Hopper' --generate-password",
        "",
    ]
    print("\n".join(lines), flush=True)


def program() -> str:
    """Return how this program was called, so that what we print can be typed."""
    import shlex
    import shutil

    called = Path(sys.argv[0]).absolute()
    found = shutil.which(called.name)
    if found is not None and Path(found).absolute() == called:
        return called.name
    return shlex.quote(str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called))
