"""What a command's body gets, and what it leaves."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cli.errors import printable
from cli.output import Format, Result, Style
from cli.signals import at_a_prompt

if TYPE_CHECKING:
    from pydantic import BaseModel
    from sqlalchemy.ext.asyncio import AsyncSession

    from api.config import Settings
    from api.core.actor import Actor
    from api.core.runtime import Runtime
    from cli.client.server import Server

Q = TypeVar("Q", bound="BaseModel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a command's body gets: who runs it, how it may talk to them, and its transaction."""

    settings: "Settings"
    form: Format | None = None
    fields: tuple[str, ...]
    quiet: bool
    interactive: bool
    dry_run: bool
    yes: bool
    server: "Server | None" = None
    _runtime: "Runtime | None" = None
    _session: "AsyncSession | None" = None
    _actor: "Actor | None" = None

    @property
    def runtime(self) -> "Runtime":
        """The process's resources; not there in commands that need no database."""
        assert self._runtime is not None  # noqa: S101 - the command's kind decides
        return self._runtime

    @property
    def session(self) -> "AsyncSession":
        """The command's transaction."""
        assert self._session is not None  # noqa: S101 - the command's kind decides
        return self._session

    @property
    def actor(self) -> "Actor":
        """Who runs the command."""
        assert self._actor is not None  # noqa: S101 - the command's kind decides
        return self._actor

    def say(self, message: str) -> None:
        """Tell the person something that is not data."""
        if not self.quiet:
            print(printable(message), file=sys.stderr)

    def require_shown(self, *names: str) -> None:
        """Go on only if the output has one of these fields, which nobody is shown again.

        Raises:
            BadRequest: It has not, and the secret would be lost.
        """
        from api.core.errors import BadRequest

        hint = "leave out -o ids" if self.form is Format.IDS else f"name it too: --fields {names[0]}"
        if not self.dry_run and (self.form is Format.IDS or (self.fields and not {*names} & {*self.fields})):
            raise BadRequest(
                f"{names[0]} is shown this once, and would not be",
                hint=hint,
            )

    def changed(self, *, changed: bool) -> dict[str, Any]:
        """Return what a mutating command adds to its object."""
        return {"changed": changed} | ({"dry_run": True} if self.dry_run else {})

    async def pages(
        self, list_page: Callable[[Q], Awaitable[tuple[list[Any], str | None]]], query: Q, *, every: bool
    ) -> tuple[list[Any], str | None]:
        """Return one page of a list, or all from there on, and where it goes on; say so if it does.

        Raises:
            ServerAnswer: It would go on for ever.
        """
        from cli.asking import ServerAnswer

        items, following = await list_page(query)
        while every and following is not None:
            more, after = await list_page(query.model_copy(update={"cursor": following}))
            if after == following:
                raise ServerAnswer("The list never ends", cause="a page names itself as the one that follows it")
            items, following = items + more, after
        if following is not None:
            self.say(f"{len(items)} shown, and there are more: use --all, or --cursor {following}")
        return items, following

    async def confirm(self, action: str, *, expected: str) -> None:
        """Let a destructive command go on only if the person types the name of what it destroys, or said `--yes`.

        Raises:
            MissingInput: There is nobody to ask.
            Declined: They typed something else.
        """
        from api.core.errors import Declined, MissingInput

        if self.yes or self.dry_run:
            return
        if not self.interactive:
            raise MissingInput("This needs a confirmation, and there is no terminal to ask on", hint="use --yes")
        # Nobody else's work waits in the database for a person to make up their mind.
        if self._session is not None:
            await self._session.close()
        with at_a_prompt():
            # A server says what it is called.
            shown = printable(expected)
            print(f"This {action} {shown} {self._where()}.", file=sys.stderr)
            print(f"Type {shown} to go on: ", file=sys.stderr, end="", flush=True)
            typed = sys.stdin.readline()
        if typed.strip() != shown:
            raise Declined("Nothing was changed: that is not what was asked for")

    def _where(self) -> str:
        if self.server is not None:
            return f"at {self.server.url}"
        from api.core.connecting import redact

        return f"in {redact(self.runtime.database_url)}"


Body = Callable[..., Awaitable["Result"]]
HostBody = Callable[..., str | None]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command leaves for `run` to print, once its transaction is committed."""

    result: Result
    style: Style
