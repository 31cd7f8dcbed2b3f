"""One command is one Runtime and one transaction; every command goes through the bridge in this module.

The bridge runs every coroutine, by `cli.signals.complete` (Typer would accept an `async def` command, not run it, and
exit 0), and adds the options that every command has. Failures become exit codes in `cli.main`.
"""

import gc
import inspect
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from cli import THRESHOLD
from cli.errors import printable
from cli.once import once
from cli.options import ONCE, OPTIONS, Kind
from cli.output import Format, Result, Script, Style, check_fields
from cli.signals import at_a_prompt, complete

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


def command(
    kind: Kind, *, over_http: bool = True, is_repeatable: bool = False, looks: tuple[str, ...] = ()
) -> Callable[[Body | HostBody], Callable[..., Shown | None]]:
    """Make a body that takes a Call into a command that Typer can run; a host's is a plain function.

    Args:
        kind: What it does.
        over_http: Whether a server can be asked for it.
        is_repeatable: Whether it changes nothing the second time anyway, and so needs no key for that.
        looks: Options with which it only looks.
    """

    def decorate(body: Body | HostBody) -> Callable[..., Shown | None]:
        own = [parameter for name, parameter in inspect.signature(body).parameters.items() if name != "call"]
        left_out = (set() if over_http else {"server"}) | (ONCE.keys() if is_repeatable else set())
        extra = {name: one for name, one in OPTIONS[kind].items() if name not in left_out}

        def run_command(**arguments: Any) -> Shown | None:
            options = {name: arguments.pop(name, default) for name, (_, default) in extra.items()}
            looking = any(arguments[name] for name in looks)
            return carry_out(kind, body, arguments, options, looking=looking)

        run_command.__name__ = body.__name__
        run_command.__doc__ = body.__doc__
        run_command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what Typer reads
            [
                *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
                *(
                    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
                    for name, (annotation, default) in extra.items()
                ),
            ]
        )
        return run_command

    return decorate


def carry_out(
    kind: Kind, body: Body | HostBody, arguments: dict[str, Any], options: dict[str, Any], *, looking: bool
) -> Shown | None:
    """Run a command's body to its end: settings, database, transaction."""
    if kind == "plain":
        return Shown(Script("script", str(body(**arguments))), Style())
    if kind != "host":
        # To look through every package for plugins of Pydantic is 3 % of a command's time.
        os.environ["PYDANTIC_DISABLE_PLUGINS"] = "true"
    from api.config import Settings, given
    from api.core.errors import BadRequest
    from api.env_file import FOLDER_FILE
    from cli.client.mode import chosen_server

    if options["verbose"]:
        from cli.logs import log_to_stderr

        if options["quiet"]:
            raise BadRequest("--quiet and --verbose contradict each other", hint="name one")
        log_to_stderr(statements=options["verbose"] > 1)
    if options["profile"] is not None:
        if not options["profile"]:
            raise BadRequest("--profile names none", hint="leave it out, and .env counts")
        # Where the processes that we start find it too.
        os.environ["APICTL_PROFILE"] = options["profile"]
    # The default, which makes `| head` end us quietly, would also end us when the database hangs up.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    call = Call(
        settings=Settings.load(),
        form=options["output"],
        quiet=options["quiet"],
        interactive=sys.stdin.isatty() and not options["no_input"],
        fields=tuple(name.strip() for name in (options["fields"] or "").split(",") if name.strip()),
        dry_run=options.get("dry_run", False),
        yes=options.get("yes", False),
    )
    server = chosen_server(kind, call.settings, options)
    if server is not None and options["server"] is None and given()["APICTL_SERVER"].file == FOLDER_FILE:
        # Somebody else may have written that: whoever types a password then should know where it goes.
        call.say(f"On {server}, which {FOLDER_FILE} names.")
    if kind in {"host", "bulk", "export"}:
        # What goes on for long makes garbage.
        gc.set_threshold(*THRESHOLD)
    if kind == "host":
        from api.core.memory import one_heap

        one_heap()
        body(call, **arguments)
        return None
    # What has done something does not wait for a key.
    paged = kind in {"read", "local", "checks"} and not options["no_pager"]
    style = Style(form=options["output"], fields=call.fields, say=call.say, paged=paged)
    if kind in {"remote", "local"}:
        return Shown(complete(checked_fields(call, body, arguments)), style)
    if server is not None:
        return Shown(complete(with_server(server, call, body, arguments, options.get("idempotency_key"))), style)
    if kind == "checks":
        # What holds the database may be what does not work.
        return Shown(complete(checked_fields(call, body, arguments)), style)
    from api.core.runtime import held_database

    # Outside of the event loop, so that Ctrl-C ends the wait for an embedded PostgreSQL at once. Only a command
    # that makes the schema may make the database: an operator in the wrong folder must not.
    create = kind == "schema" and not (call.dry_run or looking)
    with held_database(call.settings, create=create) as url:
        result = complete(with_call(kind, call, body, arguments, options, url))
    return Shown(result, style)


async def checked_fields(call: Call, body: Any, arguments: dict[str, Any]) -> Result:
    """Run the body of a command that needs no database of ours."""
    result = await refusals(body(call, **arguments))
    check_fields(result, call.fields)
    return result


async def with_server(
    url: str, call: Call, body: Body | HostBody, arguments: dict[str, Any], key: str | None
) -> Result:
    """Give the body its Call, with a server in place of a transaction."""
    from cli.client.server import Server

    async with Server.open(url, call.settings, fields=call.fields, dry_run=call.dry_run, key=key) as server:
        return await checked_fields(replace(call, server=server), body, arguments)


async def with_call(
    kind: Kind, call: Call, body: Body | HostBody, arguments: dict[str, Any], options: dict[str, Any], url: str
) -> Result:
    """Give the body its Call, inside the resources and the transaction of its kind."""
    from api.core.actor import Actor
    from api.core.errors import MissingScope
    from api.core.runtime import Runtime
    from cli.operator import operator_name

    actor = Actor.operator(operator_name())
    async with Runtime.open(call.settings, url=url, pool_size=2) as runtime:
        call = replace(call, _runtime=runtime, _actor=actor)
        if kind in {"schema", "first", "rewind", "source"}:
            # What works on the schema has transactions of its own.
            return await refusals(body(call, **arguments))
        try:
            if kind in {"bulk", "export"}:
                # As many transactions as it takes.
                async with runtime.transaction(readonly=True) as session:
                    actor = await acting(session, runtime, actor, options["as_user"])
                return await refusals(body(replace(call, _actor=actor), **arguments))
            async with runtime.transaction(readonly=kind == "read", rollback=call.dry_run) as session:
                actor = await acting(session, runtime, actor, options["as_user"])
                call = replace(call, _session=session, _actor=actor)
                asked = {"command": body.__name__, "as": options["as_user"]} | arguments

                async def work() -> Result:
                    result = await refusals(body(call, **arguments))
                    # Before the commit: a command that fails has changed nothing.
                    check_fields(result, call.fields)
                    return result

                return await once(call, options.get("idempotency_key"), asked, work)
        except MissingScope as error:
            if not call.dry_run:
                from api.audit.refusals import note_refusal

                await note_refusal(runtime, actor, error, operation=body.__name__)
            raise


async def acting(session: "AsyncSession", runtime: "Runtime", actor: "Actor", as_user: str | None) -> "Actor":
    """Return the operator, or the user as whom they act."""
    if as_user is None:
        return actor
    from api.users.service import UserService

    return await UserService(session, actor, runtime.passwords).act_as(as_user)


async def refusals(work: Any) -> Result:
    """Await a body, and turn a schema's refusal of an option into the failure that HTTP answers with."""
    from pydantic import ValidationError

    from api.core.errors import InvalidInput

    try:
        result: Result = await work
    except ValidationError as error:
        raise InvalidInput.of(error.errors(include_input=False, include_context=False, include_url=False)) from None
    return result
