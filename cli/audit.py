"""The terminal door to the audit log."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.bulk import exported, watch
from cli.call import Call
from cli.context import command
from cli.output import Item, Listing, Script

if TYPE_CHECKING:
    from api.audit.service import AuditService
    from cli.client.audit import AuditClient

COLUMNS = ("id", "at", "actor", "door", "action", "target", "target_id", "outcome", "detail")
TABLE = ("at", "actor", "action", "outcome", "detail", "door", "target_id", "request_id")


class Door(StrEnum):
    """Ways to do something."""

    HTTP = "http"
    CLI = "cli"


class Outcome(StrEnum):
    """What became of it."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


Who = Annotated[
    str | None,
    typer.Option("--actor", help="Who did it: a user's id, address or name; or an operator as the log has them."),
]
Action = Annotated[str | None, typer.Option("--action", help="What was done, as user.create.")]
Target = Annotated[str | None, typer.Option("--target", help="The kind of what it was done to, as user.")]
TargetId = Annotated[
    str | None, typer.Option("--target-id", help="The id of what it was done to; of an account, its address too.")
]
ByDoor = Annotated[Door | None, typer.Option("--door", help="By which door.")]
WithOutcome = Annotated[Outcome | None, typer.Option("--outcome", help="With which outcome.")]
Request = Annotated[str | None, typer.Option("--request-id", help="The request, as its answer named it.")]
Since = Annotated[str | None, typer.Option("--since", help="From then on, as 2026-11-26T08:00; UTC without a zone.")]
Until = Annotated[str | None, typer.Option("--until", help="Before then.")]


def service(call: Call) -> "AuditService | AuditClient":
    """Return the service behind these commands, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.audit import AuditClient

        return AuditClient(call.server)
    from api.audit.service import AuditService

    return AuditService(call.runtime, call.actor)


@command("read")
async def list_audit(
    call: Call,
    *,
    actor: Who = None,
    action: Action = None,
    target: Target = None,
    target_id: TargetId = None,
    door: ByDoor = None,
    outcome: WithOutcome = None,
    request_id: Request = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", help="Entries a page, 1 to 200.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where the page before ended.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pages.", show_default=False)] = False,
) -> Listing:
    """List the audit log, the newest entries first.

    Example: apictl list-audit --actor ada@example.com --since 2026-11-01

    Example: apictl list-audit --outcome refused --target-id ada@example.com
    """
    from api.audit.schemas import AuditQuery

    query = AuditQuery.model_validate(
        {
            "actor": actor,
            "action": action,
            "target": target,
            "target_id": target_id,
            "door": door,
            "outcome": outcome,
            "request_id": request_id,
            "since": since,
            "until": until,
            "limit": 200 if every else limit,
            "cursor": cursor,
        }
    )
    entries, following = await call.pages(service(call).list_audit, query, every=every)
    return Listing([entry.model_dump(mode="json") for entry in entries], following, COLUMNS, TABLE)


@command("export")
async def export_audit(
    call: Call,
    *,
    actor: Who = None,
    action: Action = None,
    target: Target = None,
    target_id: TargetId = None,
    door: ByDoor = None,
    outcome: WithOutcome = None,
    request_id: Request = None,
    since: Since = None,
    until: Until = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Write to this file, which nobody else may read; else to stdout.")
    ] = None,
) -> Script:
    """Export the audit log as JSONL, the oldest entries first.

    Example: apictl export-audit --since 2026-11-01 --to november.jsonl
    """
    from api.audit.schemas import AuditFilter

    which = AuditFilter.model_validate(
        {
            "actor": actor,
            "action": action,
            "target": target,
            "target_id": target_id,
            "door": door,
            "outcome": outcome,
            "request_id": request_id,
            "since": since,
            "until": until,
        }
    )
    return await exported(lambda: service(call).export_audit(which), to)


@command("export")
async def verify_audit(
    call: Call,
    *,
    since: Annotated[
        Path | None,
        typer.Option("--since", help="What this command said before, with -o json: it must be in the log still."),
    ] = None,
) -> Item:
    """Look whether the audit log is whole: exit code 5 if not.

    It says which entries were changed, deleted or slipped in. Who owns the database can make all of it anew, or cut off
    its end: that is found by what an earlier run said, if it is kept where they cannot write.

    Example: apictl verify-audit

    Example: apictl verify-audit --since heads.json
    """
    from api.audit.schemas import AuditSince
    from api.core.errors import BadRequest

    kept = AuditSince.model_validate({})
    if since is not None:
        none_of_ours = BadRequest(
            f"{since} is nothing that this command has said", hint="keep all of it: apictl verify-audit -o json"
        )
        try:
            kept = AuditSince.model_validate_json(since.read_bytes())
        except OSError as error:
            raise BadRequest(f"{since} cannot be read", cause=error.strerror) from None
        except ValueError:
            raise none_of_ours from None
        if not kept.heads:
            raise none_of_ours
    audit = service(call)
    watching = None
    if call.server is None:
        watching = asyncio.create_task(watch(call, audit, 0))
    try:
        verified = await audit.verify_audit(kept)
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])
    call.say(f"The log is whole: {verified.entries:,} entries")
    return Item(verified.model_dump(mode="json"))
