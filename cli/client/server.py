"""A server that commands work on instead of a database: as whom, and how each of their requests is sent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from api.config import Settings, given
from api.core.errors import ApictlError, BadRequest, BadSettings, Kind
from api.env_file import FOLDER_FILE
from cli import login_file
from cli.asking import (
    NotLoggedIn,
    ServerAnswer,
    answered,
    checked,
    connected,
    content_of,
    none_of_ours,
    object_of,
    refreshed,
    refusal,
)
from cli.output import Item, check_fields
from cli.secrets import decoded, read_private

if TYPE_CHECKING:
    import httpx2

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
Method = Literal["POST", "PUT", "PATCH", "DELETE"]

# Seconds before each further attempt of what only reads; and of a server's own wish, at most.
PAUSES: Final = (0.2, 1.0)
LONGEST_PAUSE: Final = 3
# Of pages, and of what was done to a state of as many bytes as a server takes.
LARGEST_PAGE: Final = 32 << 20


class Changed(NamedTuple, Generic[M]):
    """What a server answered to a request that may change something.

    Attributes:
        body: What it shows of it.
        changed: Whether it has changed anything.
        created: Whether it was not there before.
    """

    body: M
    changed: bool
    created: bool


@dataclass(slots=True)
class Server:
    """A server, asked as one user; `fields` are those of its answers that will be shown.

    Attributes:
        source: Where the token is from.
        login: What is kept of the login that it is from, if it is.
        key: What whoever runs the command gave it, to be done once; one of its own for each request, if they did not.
        changes: How many requests were sent that may change something.
        was_done: Whether one of them had been done before, under the key that the command was given.
    """

    url: str
    client: "httpx2.AsyncClient"
    token: str
    source: str
    login: dict[str, str] | None
    fields: tuple[str, ...]
    dry_run: bool
    key: str | None = None
    changes: int = 0
    was_done: bool = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, settings: Settings, *, fields: tuple[str, ...], dry_run: bool, key: str | None = None
    ) -> AsyncIterator[Self]:
        """Hold a connection for the length of a `with` block.

        Raises:
            BadRequest: It is no server's URL, or the token cannot be used.
            NotLoggedIn: There is neither a token nor a login.
        """
        url = checked(url)
        found, login = token_of(settings), None
        if found is None:
            login = login_file.read()
            if login is None or login["server"] != url:
                raise NotLoggedIn(
                    f"Nobody is logged in to {url}",
                    hint=f"set APICTL_TOKEN or APICTL_TOKEN_FILE to an API key, or: apictl login {url}",
                )
            found = login["access_token"], "apictl login"
        async with connected(url) as client:
            yield cls(url, client, *found, login, fields, dry_run, key)

    async def get(self, path: str, shown: type[M], query: BaseModel | None = None) -> M:
        """Return what a server shows; asked again after a moment, where it may answer then.

        Raises:
            ApictlError: What the server refuses with.
            ServerAnswer: It does not answer as it should.
        """

        async def get() -> M:
            async with self.asked("GET", path, params=params(query)) as answer:
                return read(answer, shown, await content_of(answer, LARGEST_PAGE))

        return await again(get)

    async def change(
        self,
        method: Method,
        path: str,
        shown: type[M],
        *,
        body: BaseModel | None = None,
        query: BaseModel | None = None,
        if_version: int | None = None,
        patient: bool = False,
    ) -> Changed[M]:
        """Have a server change something, once: it is asked again under the same key, if no answer comes of the first.

        Raises:
            ApictlError: What the server refuses with.
            ServerAnswer: It does not answer as it should.
        """
        extra = {"changed": True} | ({"dry_run": True} if self.dry_run else {})
        # Before anything is done.
        check_fields(Item(dict.fromkeys(shown.model_fields), extra), self.fields)
        headers = {} if if_version is None else {"If-Match": f'"{if_version}"'}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = body.model_dump_json(exclude_unset=True)
        if self.dry_run:
            headers["Prefer"] = "dry-run"
        headers["Idempotency-Key"] = self._next_key()

        async def change() -> Changed[M]:
            async with self.asked(
                method, path, params=params(query), headers=headers, content=content, patient=patient
            ) as answer:
                found = read(answer, shown, await content_of(answer, LARGEST_PAGE))
                if self.dry_run and answer.headers.get("preference-applied") != "dry-run":
                    raise ServerAnswer(
                        "The server does not say that it undid it",
                        hint="look there whether it did it; is it of this version?",
                    )
                self.was_done |= self.key is not None and answer.headers.get("idempotency-replayed") == "true"
                return Changed(found, answer.headers.get("apictl-changed") != "false", answer.status_code == 201)

        return await again(change)

    def _next_key(self) -> str:
        """Return the key of the next request that may change something."""
        self.changes += 1
        if self.key is None:
            return str(uuid4())
        return self.key if self.changes == 1 else f"{self.key}-{self.changes}"

    async def look_up(self, path: str, shown: type[M], form: dict[str, str]) -> M:
        """Return what a server knows of something that is too secret for an address.

        Raises:
            ApictlError: What the server refuses with.
            ServerAnswer: It does not answer as it should.
        """
        async with self.asked("POST", path, data=form) as answer:
            return read(answer, shown, await content_of(answer))

    @asynccontextmanager
    async def asked(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **request: Any
    ) -> "AsyncIterator[httpx2.Response]":
        """Send a request, and yield its answer; a login whose access token has run out gets another, once.

        Raises:
            ApictlError: What the server refuses with.
            ServerAnswer: It does not answer as it should.
        """
        while True:
            bearer = {"Authorization": f"Bearer {self.token}"}
            async with answered(self.client, method, path, headers=bearer | (headers or {}), **request) as answer:
                if answer.is_success:
                    yield answer
                    return
                refused = refusal(answer, object_of(answer, await content_of(answer)))
            if refused.kind is not Kind.NOT_AUTHENTICATED:
                raise refused
            if self.login is None:
                refused.hint = f"the token is from {self.source}"
                raise refused
            if isinstance(request.get("content"), AsyncIterator):
                # It cannot be sent twice.
                refused.hint = "run it again: the login has run out meanwhile"
                raise refused
            self.token, self.login = await refreshed(self.client, self.login), None


async def again(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what a server answers; asked again after a moment, where it may answer then.

    Raises:
        ApictlError: What the server refuses with, or that it does not answer.
    """
    for pause in PAUSES:
        try:
            return await ask()
        except ApictlError as error:
            # What else it is will be no other in a moment.
            is_passing = error.kind in {Kind.UNAVAILABLE, Kind.TIMEOUT} or error.code == "request-in-progress"
            after = error.retry_after if is_passing else None
            if after is None or after > LONGEST_PAUSE:
                raise
        await asyncio.sleep(after or pause)
    return await ask()


def read(answer: "httpx2.Response", shown: type[M], content: bytes) -> M:
    """Return what was answered, as the schema has it; what a newer server says besides is left out.

    Raises:
        ServerAnswer: It is something else.
    """
    try:
        return shown.model_validate_json(content, extra="ignore")
    except ValidationError:
        # A page of somebody else's, or half of one of ours.
        object_of(answer, content)
        raise none_of_ours(answer, f"it answered {answer.status_code} with something else") from None


def params(query: BaseModel | None) -> dict[str, Any]:
    """Return the parameters of a request; none for what was left out."""
    return {} if query is None else query.model_dump(mode="json", exclude_none=True)


def path_of(*parts: str) -> str:
    """Return a path, of which each part may hold anything."""
    # What is all dots would be taken for a way up.
    return "".join("/" + (quote(part, safe="@") if part.strip(".") else part.replace(".", "%2E")) for part in parts)


def token_of(settings: Settings) -> tuple[str, str] | None:
    """Return the token that the settings name, or the file that they name has; and where it is from.

    Raises:
        BadRequest: There are two, or it cannot be used.
        BadSettings: A folder's `.env` names a file that is not in the folder.
    """
    if settings.token is not None and settings.token_file is not None:
        raise BadRequest("The token has two sources: APICTL_TOKEN and APICTL_TOKEN_FILE", hint="name one")
    if settings.token_file is not None:
        source = str(settings.token_file)
        where = given()["APICTL_TOKEN_FILE"]
        if where.file == FOLDER_FILE and not settings.token_file.resolve().is_relative_to(Path.cwd()):
            raise BadSettings(
                f"{where.where} names a file outside of its folder",
                cause="whoever wrote it could have any key of yours sent to a server of theirs",
                hint="set APICTL_TOKEN_FILE in the environment, or in a profile",
            )
        text = decoded(read_private(settings.token_file), source, what="token")
    elif settings.token is not None:
        source, text = "APICTL_TOKEN", settings.token.get_secret_value().strip()
    else:
        return None
    if not login_file.TOKEN.fullmatch(text):
        # Its own words would show it.
        raise BadRequest(f"What {source} has is no token", hint="it is an API key or an access token, and nothing else")
    return text, source
