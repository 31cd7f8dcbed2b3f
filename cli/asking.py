"""How a server is asked over HTTP, and what its answers mean; what is asked, and as whom, is not known here."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from api.core.errors import ApictlError, BadRequest, BadSettings, FieldError, Kind
from api.urls import LOOPBACK, is_server_url
from cli import login_file
from cli.errors import printable

if TYPE_CHECKING:
    import httpx2

TIMEOUT: Final = 30
CONNECT_TIMEOUT: Final = 5
# Of what goes on for long: seconds until the next word of it.
PATIENCE: Final = 600
# What changes nothing, whatever its method.
LOOKS: Final = {"/v1/plan", "/v1/auth/introspect"}
# Bytes of an answer: no answer of ours comes near that.
LARGEST: Final = 1 << 20
# What of the environment decides how a server is reached.
NETWORK: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
TOKENS: Final = dict.fromkeys(login_file.TOKENS, login_file.TOKEN)
CODE: Final = re.compile(r"[a-z][a-z-]{0,60}")
# Where the status alone does not tell which kind a failure is of; the classes are a server's, and not imported here.
BY_CODE: Final = {
    "access-denied": Kind.CREDENTIALS,
    "authorization-pending": Kind.CREDENTIALS,
    "broken-migrations": Kind.MISCONFIGURED,
    "database-newer": Kind.SCHEMA,
    "expired-token": Kind.CREDENTIALS,
    "foreign-database": Kind.MISCONFIGURED,
    "invalid-grant": Kind.CREDENTIALS,
    "invalid-link": Kind.CREDENTIALS,
    "mail-unset": Kind.MISCONFIGURED,
    "mfa-required": Kind.CREDENTIALS,
    "no-database": Kind.MISCONFIGURED,
    "slow-down": Kind.CREDENTIALS,
}
BY_STATUS: Final = {kind.status: kind for kind in reversed(Kind)} | {400: Kind.USAGE, 503: Kind.UNAVAILABLE}


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


def connected(url: str) -> "httpx2.AsyncClient":
    """Return a client of a server.

    Raises:
        BadSettings: The environment names a proxy, or certificates, that cannot be used.
    """
    import httpx2

    from api import __version__

    # Over plain HTTP it is this machine: no proxy is to see a token, and no certificates are read.
    tls = urlsplit(url).scheme != "http"
    try:
        return httpx2.AsyncClient(
            base_url=url,
            trust_env=tls,
            verify=tls,
            timeout=httpx2.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT),
            follow_redirects=False,
            headers={"User-Agent": f"apictl/{__version__}"},
        )
    except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
        named = " or ".join(name for name in os.environ if name.upper() in NETWORK)
        # Other words than the system's could hold a proxy's password.
        raise BadSettings(
            f"{named} cannot be used", cause=error.strerror if isinstance(error, OSError) else None,
            hint="a proxy is named as http://proxy.example.com:3128, certificates by a file of theirs",
        ) from None  # fmt: skip


@asynccontextmanager
async def answered(
    client: "httpx2.AsyncClient", method: str, path: str, *, patient: bool = False, **request: Any
) -> "AsyncIterator[httpx2.Response]":
    """Send a request, and yield what is answered, which is to be read inside; `patient`: where that may take long.

    Raises:
        ServerAnswer: The server cannot be reached, or goes away in the middle of it.
    """
    import httpx2

    if patient:
        request["timeout"] = httpx2.Timeout(PATIENCE, connect=CONNECT_TIMEOUT)
    has_begun = False
    try:
        async with (
            asyncio.timeout(None if patient else TIMEOUT),
            client.stream(method, path, **request) as answer,
        ):
            has_begun = True
            yield answer
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.InvalidURL, UnicodeError) as error:
        raise unreached(client, error) from None
    except (httpx2.HTTPError, TimeoutError) as error:
        waited = isinstance(error, httpx2.TimeoutException | TimeoutError)
        raise ServerAnswer(
            f"{client.base_url} {'broke off its answer' if has_begun else 'did not answer'}",
            cause=f"nothing came for {PATIENCE if patient else TIMEOUT} seconds" if waited else str(error),
            hint="run it again, or check its URL"
            if method == "GET" or path in LOOKS
            else "it may have been done all the same: look there before you run it again",
            # Who has waited already need not wait twice.
            retry_after=0 if isinstance(error, httpx2.TransportError) and not waited else None,
        ) from None


def unreached(client: "httpx2.AsyncClient", error: Exception) -> ServerAnswer:
    """Return the failure of a connection that was never made, in words of ours where a library's are none."""
    import httpx2

    waited = isinstance(error, httpx2.ConnectTimeout)
    # As `[SSL: NAME] in words (_ssl.c:1000)`, and the like.
    cause = re.sub(r"^\[.*?\] | \(_ssl\.c:\d+\)$", "", str(error))
    hint = "check its URL; or is it not running?"
    if re.search("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE", str(error)):
        cause, hint = "what answers there speaks no TLS", "check its port; without TLS, its URL begins with http://"
    proxies = [name for name in os.environ if name.upper() in NETWORK[:3]]
    if proxies and client.base_url.scheme == "https":
        hint += f" The environment names a proxy: {', '.join(proxies)}"
    return ServerAnswer(
        f"{client.base_url} cannot be reached",
        cause=f"no connection after {CONNECT_TIMEOUT} seconds" if waited else cause,
        hint=hint,
        retry_after=0 if isinstance(error, httpx2.ConnectError) else None,
    )


async def content_of(answer: "httpx2.Response", most: int = LARGEST) -> bytes:
    """Return an answer's body.

    Raises:
        ServerAnswer: It is longer than any of ours.
    """
    content = bytearray()
    async for part in answer.aiter_bytes():
        content += part
        if len(content) > most:
            raise none_of_ours(answer, "it answered with more than apictl ever does")
    return bytes(content)


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
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with answered(client, method, path, headers=headers, data=data) as answer:
        content = await content_of(answer)
    said = object_of(answer, content)
    if not answer.is_success:
        raise refusal(answer, said)
    said = {name: tame(value) for name, value in said.items()}
    if all(name in said and fits(said[name], kind) for name, kind in wanted.items()):
        return said
    raise none_of_ours(answer, f"it answered {answer.status_code}")


def object_of(answer: "httpx2.Response", content: bytes) -> dict[str, Any]:
    """Return the object that was answered; an empty one where it is none.

    Raises:
        ServerAnswer: It is no JSON.
    """
    try:
        said = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        kind = tame(answer.headers.get("content-type", "no content type"))
        raise none_of_ours(answer, f"it answered {answer.status_code} with {kind}") from None
    return said if isinstance(said, dict) else {}


def refusal(answer: "httpx2.Response", said: Mapping[str, Any]) -> ApictlError:
    """Return the failure that a server answered with: what it would have been here."""
    code, words = said.get("code"), {name: tame(said[name]) for name in said if isinstance(said[name], str)}
    kind = None if answer.is_success else BY_CODE.get(str(code), BY_STATUS.get(answer.status_code))
    if kind is None or not isinstance(code, str) or not CODE.fullmatch(code):
        return none_of_ours(answer, f"it answered {answer.status_code}")
    if kind is Kind.INTERNAL:
        # No bug of this process: it may be gone at the next attempt.
        request = f"its request_id is {words.get('request_id')}"
        return ServerAnswer("The server failed", cause=request, hint="its log has the cause under this id")
    known = ApictlError.registry.get(code)
    if known is None:
        names = {"kind": kind, "code": code, "title": words.get("title", code)}
        known = type(code, (ApictlError,), names)
    errors = said.get("errors")
    refused = [
        FieldError(*(str(tame(one.get(name))) for name in ("field", "message", "code")))
        for one in (errors if isinstance(errors, list) else [])
        if isinstance(one, dict)
    ]
    return known(
        words.get("detail"),
        cause=words.get("cause"),
        hint=words.get("hint"),
        errors=refused,
        retry_after=seconds(answer),
    )


def seconds(answer: "httpx2.Response") -> int | None:
    """Return after how many seconds a server wants to be asked again."""
    after = answer.headers.get("retry-after", "")
    return int(after) if re.fullmatch("[0-9]{1,6}", after) else None


def none_of_ours(answer: "httpx2.Response", cause: str) -> ServerAnswer:
    """Return the failure for an answer that apictl would not give; the server of another machine may be there."""
    elsewhere = tame(answer.headers.get("location"))
    return ServerAnswer(
        # A balancer, whose server is not there for a moment.
        retry_after=(seconds(answer) or 0) if answer.status_code in {502, 503, 504} else None,
        cause=cause + (f", and points to {elsewhere}" if elsewhere else ""),
        hint="check its URL; is that an apictl server?",
    )


async def refreshed(client: "httpx2.AsyncClient", sent: dict[str, str]) -> str:
    """Return an access token in the place of one that has run out, and keep it with its refresh token.

    One process after the other, and each looks what is kept by then: a refresh token used twice ends the session.

    Raises:
        BadRequest: It could not be kept; nothing is spent.
        NotLoggedIn: The login has ended, or is one to another server.
    """
    from cli.key_file import turn_at

    ended = NotLoggedIn("The login has ended", hint=f"log in again: apictl login {sent['server']}")
    async with turn_at(login_file.place()):
        login_file.writable()
        kept = login_file.read()
        if kept is None or kept["server"] != sent["server"]:
            raise ended
        if kept["access_token"] != sent["access_token"]:
            # Another process was first.
            return kept["access_token"]
        form = {"grant_type": "refresh_token", "refresh_token": kept["refresh_token"]}
        try:
            tokens = await ask(client, "POST", "/v1/auth/token", TOKENS, data=form)
        except ApictlError as error:
            if error.code != "invalid-grant":
                raise
            raise ended from None
        login_file.write(kept["server"], tokens)
    token: str = tokens["access_token"]
    return token


def checked(server: str) -> str:
    """Return a server's URL in the one form that it has: scheme and host in small letters, no slash at its end.

    Raises:
        BadRequest: It is none, or tokens would travel in the clear.
    """
    if not is_server_url(server):
        # Whoever writes a password into a URL has not asked for it to be in a log.
        shown = re.sub("//[^/]*@", "//***@", server) or "What is empty"
        raise BadRequest(f"{shown} is not a server's URL", hint=meant(server))
    parts = urlsplit(server)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise BadRequest("The tokens would travel in the clear", hint="use https; http is for this machine only")
    return f"{parts.scheme}://{parts.netloc.lower()}"


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
