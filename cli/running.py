"""One command is one Runtime and one transaction; every command goes through the bridge in this module.

The bridge runs every coroutine, by `cli.signals.complete`: Typer would accept an `async def` command, not run it, and
exit 0. Failures become exit codes in `cli.main`.
"""

import gc
import os
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli import THRESHOLD
from cli.call import Body, Call, HostBody, Shown
from cli.once import DONE_BEFORE, once
from cli.options import Kind
from cli.output import Result, Script, Style, check_fields
from cli.signals import complete

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from api.core.actor import Actor
    from api.core.runtime import Runtime


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
        result = await checked_fields(replace(call, server=server), body, arguments)
        if server.was_done:
            call.say(DONE_BEFORE)
        return result


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
