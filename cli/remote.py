"""Commands about logging in to a server over HTTP, as whoever a person is there."""

import asyncio
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.core.errors import ApictlError, Kind
from cli import login_file
from cli.asking import TOKENS, NotLoggedIn, ask, checked, connected
from cli.call import Call
from cli.context import command
from cli.errors import printable
from cli.output import Item

if TYPE_CHECKING:
    import httpx2

# Seconds between two questions, at least and at most, whatever the server says.
SHORTEST, LONGEST = 1.0, 60
# Seconds that a person has for their decision, at most.
PATIENCE = 3600
# What an answer of ours has, and of which type.
BEGUN = {
    "device_code": str,
    "user_code": re.compile(r"[\w-]{1,40}"),
    "verification_uri_complete": re.compile(r"https?://[!-~]{1,300}"),
    "interval": int,
    "expires_in": int,
}
ME = {"id": str, "email": str | None, "name": str | None}
# A server that is busy, or that starts again, may know in a moment what has become of the device.
PASSING = {Kind.UNAVAILABLE, Kind.RATE_LIMITED, Kind.TIMEOUT}


@command("remote")
async def login(
    call: Call,
    server: Annotated[str, typer.Argument(help="The server's URL.", show_default=False)],
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="What this machine may do; repeat it. Default: all you may.")
    ] = None,
) -> Item:
    """Log in to a server: a person allows it in a browser, on this machine or on any other.

    What it gets is kept in a file that only you can read; logout ends it, whoami shows it. With --server, or
    APICTL_SERVER, other commands work on that server, as you; without, on the database that the settings name.

    Example: apictl login https://accounts.example.com
    """
    from cli.key_file import turn_at

    url = checked(server)
    # Not only when a person has allowed it: then a session would be there that nobody knows of.
    login_file.read()
    login_file.writable()
    async with connected(url) as client:
        begun = await ask(client, "POST", "/v1/auth/device", BEGUN, data={"scope": " ".join(scopes or ())})
        # Also with --quiet: without it, nobody can allow it.
        for line in (
            f"Open {begun['verification_uri_complete']}",
            f"and allow it there, if it shows the code {begun['user_code']}. Waiting (Ctrl-C gives up) …",
        ):
            print(printable(line), file=sys.stderr)
        tokens = await allowed(client, begun)
        try:
            # A command that refreshes the login before would keep that one.
            async with turn_at(login_file.place()):
                before = login_file.read()
                login_file.write(url, tokens)
        except BaseException:
            # Nobody could end it from here.
            with suppress(ApictlError):
                await end(client, tokens)
            raise
        if before is not None:
            # One login after another ends the session before.
            try:
                async with connected(before["server"]) as there:
                    await end(there, before)
            except ApictlError:
                call.say(f"The session before, at {before['server']}, could not be ended: revoke it there.")
        me = await ask(client, "GET", "/v1/users/me", ME, token=tokens["access_token"])
    return Item({"server": url, "user": me["email"] or me["name"], "user_id": me["id"]}, call.changed(changed=True))


@command("remote")
async def logout(call: Call) -> Item:
    """Log out: the session ends on the server, and its tokens are removed from this machine.

    Example: apictl logout
    """
    from cli.key_file import turn_at

    kept = login_file.read()
    if kept is None:
        call.say("Nobody was logged in.")
        return Item({"server": None}, call.changed(changed=False))
    # A command that refreshes it meanwhile would keep it.
    async with turn_at(login_file.place()):
        kept = login_file.read() or kept
        async with connected(kept["server"]) as client:
            await end(client, kept)
        login_file.place().unlink(missing_ok=True)
    return Item({"server": kept["server"]}, call.changed(changed=True))


@command("remote")
async def whoami(call: Call) -> Item:
    """Show the server that APICTL_SERVER names, or that this machine is logged in to, and as whom.

    Example: apictl whoami
    """
    from api.users.schemas import UserRead
    from cli.client.mode import named_server
    from cli.client.server import Server

    url = named_server(call.settings)
    if url is None:
        kept = login_file.read()
        if kept is None:
            raise NotLoggedIn(hint="log in: apictl login https://…")
        url = kept["server"]
    async with Server.open(url, call.settings, fields=call.fields, dry_run=False) as server:
        me = await server.get("/v1/users/me", UserRead)
    return Item({"server": server.url, "user": me.handle, "user_id": str(me.id)})


async def allowed(client: "httpx2.AsyncClient", begun: dict[str, Any]) -> dict[str, Any]:
    """Wait until a person has decided, and return the tokens (RFC 8628, sections 3.4 and 3.5)."""
    from api.tokens.refusals import DEVICE_CODE

    # Within bounds of our own, whatever the server says.
    interval = min(max(SHORTEST, begun["interval"]), LONGEST)
    deadline = time.monotonic() + min(max(0, begun["expires_in"]), PATIENCE)
    form = {"grant_type": DEVICE_CODE, "device_code": begun["device_code"], "client_id": "apictl"}
    while True:
        await asyncio.sleep(min(interval, max(0, deadline - time.monotonic())))
        try:
            return await ask(client, "POST", "/v1/auth/token", TOKENS, data=form)
        except ApictlError as error:
            # A server that never says so would be asked for ever.
            if time.monotonic() >= deadline:
                raise
            if error.code == "slow-down":
                interval += 5
            elif error.kind in PASSING:
                interval = min(2 * interval, LONGEST)
            elif error.code != "authorization-pending":
                raise


async def end(client: "httpx2.AsyncClient", tokens: Mapping[str, str]) -> None:
    """End a session on the server."""
    await ask(client, "POST", "/v1/auth/revoke", {}, data={"token": tokens["refresh_token"]})
