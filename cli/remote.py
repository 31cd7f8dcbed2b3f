"""Commands that ask a server over HTTP, as somebody who logged in there."""

import asyncio
import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from api.config import is_server_url
from api.core.errors import ApictlError, BadRequest, Kind
from cli import login_file
from cli.context import Call, command
from cli.errors import printable
from cli.output import Item

if TYPE_CHECKING:
    import httpx2

TIMEOUT = 30
# Seconds between two questions, at least and at most, whatever the server says.
SHORTEST, LONGEST = 1.0, 60
# Seconds that a person has for their decision, at most.
PATIENCE = 3600
# Bytes of an answer: no answer of ours comes near that.
LARGEST = 1 << 20
# What an answer of ours has, and of which type.
BEGUN = {
    "device_code": str,
    "user_code": re.compile(r"[\w-]{1,40}"),
    "verification_uri_complete": re.compile(r"https?://[!-~]{1,300}"),
    "interval": int,
    "expires_in": int,
}
TOKENS = dict.fromkeys(login_file.TOKENS, login_file.TOKEN)
ME = {"id": str, "email": str | None, "name": str | None}
# A server that is busy, or that starts again, may know in a moment what has become of the device.
PASSING = {Kind.UNAVAILABLE, Kind.RATE_LIMITED, Kind.TIMEOUT}


class ServerAnswer(ApictlError):
    """The server does not answer, or with something that is none of its own answers."""

    kind = Kind.UNAVAILABLE
    code = "server-answer"
    title = "The server did not answer as apictl does"


class NotLoggedIn(ApictlError):
    """Nobody is logged in, or no longer."""

    kind = Kind.NOT_AUTHENTICATED
    code = "not-logged-in"
    title = "Nobody is logged in"


@command("remote")
async def login(
    call: Call,
    server: Annotated[str, typer.Argument(help="The server's URL.", show_default=False)],
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="What this machine may do; repeat it. Default: all you may.")
    ] = None,
) -> Item:
    """Log in to a server: a person allows it in a browser, on this machine or on any other.

    What it gets is kept in a file that only you can read; logout ends it, whoami shows it. Every other command goes on
    working on the database that this machine's settings name, not on that server.

    Example: apictl login https://accounts.example.com
    """
    url = checked(server)
    # Not only when a person has allowed it: then a session would be there that nobody knows of.
    before = login_file.read()
    login_file.writable()
    async with connected(url) as client:
        begun = await ask(client, "POST", "/v1/auth/device", BEGUN, data={"scope": " ".join(scopes or ())})
        call.say(f"Open {begun['verification_uri_complete']}")
        call.say(f"and allow it there, if it shows the code {begun['user_code']}. Waiting (Ctrl-C gives up) …")
        tokens = await allowed(client, begun)
        try:
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
    kept = login_file.read()
    if kept is None:
        call.say("Nobody was logged in.")
        return Item({"server": None}, call.changed(changed=False))
    async with connected(kept["server"]) as client:
        await end(client, kept)
    login_file.place().unlink(missing_ok=True)
    return Item({"server": kept["server"]}, call.changed(changed=True))


@command("remote")
async def whoami(call: Call) -> Item:
    """Show the server that this machine is logged in to, and as whom.

    Example: apictl whoami
    """
    del call
    kept = login_file.read()
    if kept is None:
        raise NotLoggedIn(hint="log in: apictl login https://…")
    async with connected(kept["server"]) as client:
        try:
            me = await ask(client, "GET", "/v1/users/me", ME, token=kept["access_token"])
        except ApictlError as error:
            if error.kind is not Kind.NOT_AUTHENTICATED:
                raise
            me = await ask(client, "GET", "/v1/users/me", ME, token=await refreshed(client, kept))
    return Item({"server": kept["server"], "user": me["email"] or me["name"], "user_id": me["id"]})


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


async def refreshed(client: "httpx2.AsyncClient", kept: dict[str, str]) -> str:
    """Return a new access token, and keep it with the refresh token that came with it."""
    form = {"grant_type": "refresh_token", "refresh_token": kept["refresh_token"]}
    try:
        tokens = await ask(client, "POST", "/v1/auth/token", TOKENS, data=form)
    except ApictlError as error:
        if error.code != "invalid-grant":
            raise
        raise NotLoggedIn("The login has ended", hint=f"log in again: apictl login {kept['server']}") from None
    login_file.write(kept["server"], tokens)
    token: str = tokens["access_token"]
    return token


async def end(client: "httpx2.AsyncClient", tokens: Mapping[str, str]) -> None:
    """End a session on the server."""
    await ask(client, "POST", "/v1/auth/revoke", {}, data={"token": tokens["refresh_token"]})


def connected(url: str) -> "httpx2.AsyncClient":
    """Return a client of a server."""
    import httpx2

    from api import __version__

    return httpx2.AsyncClient(
        base_url=url, timeout=TIMEOUT, follow_redirects=False, headers={"User-Agent": f"apictl/{__version__}"}
    )


async def ask(
    client: "httpx2.AsyncClient",
    method: str,
    path: str,
    wanted: Mapping[str, Any],
    *,
    token: str | None = None,
    data: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return what a server answers, as JSON, in which these names are wanted, of these types.

    Raises:
        ApictlError: The failure that the server answered with, the same as here.
        ServerAnswer: It does not answer, or with something else.
    """
    import httpx2

    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        async with asyncio.timeout(TIMEOUT), client.stream(method, path, headers=headers, data=data) as answer:
            content = b""
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > LARGEST:
                    raise none_of_ours(answer, "it answered with more than apictl ever does")
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, UnicodeError) as error:
        raise ServerAnswer(
            f"{client.base_url} cannot be reached", cause=str(error) or type(error).__name__, hint="check its URL"
        ) from None
    try:
        said = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        kind = tame(answer.headers.get("content-type", "no content type"))
        raise none_of_ours(answer, f"it answered {answer.status_code} with {kind}") from None
    said = {name: tame(value) for name, value in said.items()} if isinstance(said, dict) else {}
    if answer.is_success and all(name in said and fits(said[name], kind) for name, kind in wanted.items()):
        return said
    # It knows every failure that a server can answer with; a process that only asks has not imported them.
    from api import main as _failures  # noqa: F401

    known = None if answer.is_success else ApictlError.registry.get(str(said.get("code")))
    if known is None:
        raise none_of_ours(answer, f"it answered {answer.status_code}")
    words = {name: said[name] for name in ("detail", "cause", "hint") if isinstance(said.get(name), str)}
    raise known(words.get("detail"), cause=words.get("cause"), hint=words.get("hint"))


def none_of_ours(answer: "httpx2.Response", cause: str) -> ServerAnswer:
    """Return the failure for an answer that apictl would not give; the server of another machine may be there."""
    elsewhere = tame(answer.headers.get("location"))
    return ServerAnswer(
        cause=cause + (f", and points to {elsewhere}" if elsewhere else ""),
        hint="check its URL; is that an apictl server?",
    )


def meant(server: str) -> str:
    """Return what could have been meant by what is no server's URL."""
    if is_server_url(f"https://{server}"):
        return f"https://{server}, or http:// if it is on this machine"
    host = "/".join(server.split("/")[:3])
    if is_server_url(host):
        return f"without what comes after the host: {host}"
    return "as https://accounts.example.com"


def fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of the type that is wanted, or a text of that pattern."""
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    return isinstance(value, kind)


def tame(value: Any) -> Any:
    """Return what a server said without what a terminal obeys, or a header ends with: no answer of ours has that."""
    return printable(value) if isinstance(value, str) else value


def checked(server: str) -> str:
    """Return a server's URL without a slash at its end.

    Raises:
        BadRequest: It is none, or tokens would travel in the clear.
    """
    if not is_server_url(server):
        raise BadRequest(f"{server} is not a server's URL", hint=meant(server))
    parts = urlsplit(server)
    if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise BadRequest("The tokens would travel in the clear", hint="use https; http is for this machine only")
    return server.rstrip("/")
