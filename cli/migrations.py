"""The terminal door to migrations."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from api.core.errors import ApictlError, BadRequest
from cli.call import Call
from cli.context import command
from cli.output import Item, Listing, Script, check_fields

if TYPE_CHECKING:
    from pydantic import BaseModel

    from api.migrations.authoring import AuthoringService
    from api.migrations.schemas import FindingRead
    from api.migrations.service import MigrationService
    from cli.client.migrations import MigrationClient

T = TypeVar("T")
COLUMNS = ("id", "text", "phase", "is_applied", "applied_at", "actor", "door", "host")
TABLE = ("id", "applied_at", "text", "actor", "phase", "is_applied")
# Where a pipeline goes on only if nothing is left to do (Terraform's and Django's convention is another one each).
PENDING = 10
# Seconds between two lines about a wait.
SELDOM = 10

To = Annotated[str | None, typer.Option("--to", help="Stop at this revision. Default: the newest.", show_default=False)]
LockTimeout = Annotated[
    float,
    typer.Option("--lock-timeout", help="Seconds that a statement waits for others' locks before another attempt."),
]
StatementTimeout = Annotated[
    float | None,
    typer.Option(
        "--statement-timeout", help="Seconds that a statement may take. Default: any number.", show_default=False
    ),
]


def service(call: Call) -> "MigrationService":
    """Return the service behind these commands."""
    from api.migrations.service import MigrationService

    return MigrationService(call.runtime.transaction, call.runtime.patient_engine, call.actor)


def either(call: Call) -> "MigrationService | MigrationClient":
    """Return the service, or the client of a server that has it."""
    if call.server is not None:
        from cli.client.migrations import MigrationClient

        return MigrationClient(call.server)
    return service(call)


def authoring(call: Call) -> "AuthoringService":
    """Return the service behind what developers do."""
    from api.migrations.authoring import AuthoringService

    return AuthoringService(call.runtime.patient_engine, call.actor)


@command("schema", looks=("check", "plan", "sql"))
async def migrate(
    call: Call,
    to: To = None,
    *,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Do nothing; exit code 10 if anything is pending, 11 if it is newer.", show_default=False
        ),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Do nothing; show what would be done, with exit code 10.", show_default=False)
    ] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Do nothing; print the SQL.", show_default=False)] = False,
    lock_timeout: LockTimeout = 0.5,
    statement_timeout: StatementTimeout = None,
    wait_for_database: Annotated[
        float, typer.Option("--wait-for-database", help="Seconds to wait until the database answers.", min=0)
    ] = 0,
    force: Annotated[
        bool,
        typer.Option("--force", help="Take away what running servers of an older version may use.", show_default=False),
    ] = False,
) -> Item | Script:
    """Bring the database to this version's schema; at head already, this changes nothing.

    Any number of processes may do it at once: one migrates, the others wait for it, for a minute at most. A statement
    that does not get its locks gives up and is tried again, so that nobody's requests wait behind it.

    Example: apictl migrate --wait-for-database 30
    """
    from api.migrations.schemas import MigrationRun, MigrationUpgrade

    if check + plan + sql > 1:
        raise BadRequest("--check, --plan and --sql are three questions", hint="ask one at a time")
    if call.server is not None and (check or plan or sql or wait_for_database):
        raise BadRequest(
            "--check, --plan, --sql and --wait-for-database work on a database only",
            hint="apictl migration-status shows what is pending, on a server too",
        )
    how = MigrationUpgrade(to=to, lock_timeout=lock_timeout, statement_timeout=statement_timeout, force=force)
    if wait_for_database:
        await answered(call, time.monotonic() + wait_for_database, lambda: connect(call))
    if check:
        found = await service(call).migration_state(to)
        return Item(found.model_dump(mode="json"), exit_code=PENDING if found.pending else 0)
    if plan:
        planned = await service(call).plan(to)
        for step in planned.steps:
            say_findings(call, step.id, step.findings)
        if not planned.steps and planned.current != planned.to:
            say_newer(call, planned.current)
        return Item(planned.model_dump(mode="json"), exit_code=PENDING if planned.steps else 0)
    if sql:
        return Script("sql", await service(call).sql(how))
    known_fields(call, MigrationRun)
    run = await either(call).upgrade(how, dry_run=call.dry_run, say=call.say)
    if not run.pending and run.current != run.head:
        say_newer(call, run.current)
    return Item(run.model_dump(mode="json"), call.changed(changed=bool(run.applied)))


def known_fields(call: Call, shown: "type[BaseModel]") -> None:
    """Refuse a misspelt field before anything is done: what works on the schema commits by itself."""
    check_fields(Item(dict.fromkeys(shown.model_fields)), call.fields)


def say_newer(call: Call, current: str | None) -> None:
    """Tell the person that an older version than the database's own has nothing to do there."""
    call.say(f"The database is newer ({current}), and was only added to: this version has nothing to do there.")


def say_findings(call: Call, revision: str, findings: "list[FindingRead]") -> None:
    """Tell the person what a migration would do to others."""
    for finding in findings:
        call.say(f"{revision} {finding.rule}: {finding.message}. Instead: {finding.hint}")


async def answered(call: Call, deadline: float, step: Callable[[], Awaitable[T]]) -> T:
    """Return what a step that may be repeated makes, once the database answers; by the deadline (monotonic)."""
    told = float("-inf")
    while True:
        try:
            return await step()
        except ApictlError as error:
            now = time.monotonic()
            # A wrong password, or a database that is not there, does not get better.
            if error.code not in {"database-unreachable", "database-timeout"} or now > deadline:
                raise
            if now - told > SELDOM:
                call.say(f"Waiting for the database: {error.cause or error.detail}")
                told = now
            await asyncio.sleep(0.5)


async def connect(call: Call) -> None:
    """Ask the database whether it answers."""
    async with call.runtime.transaction(readonly=True) as session:
        await session.connection()


@command("read")
async def migration_status(call: Call) -> Item:
    """Show where the database stands, what is pending, and who did what to it.

    Example: apictl migration-status -o json
    """
    return Item((await either(call).migration_status()).model_dump(mode="json"))


@command("read")
async def migration_history(call: Call) -> Listing:
    """List every migration, the newest first: what it is, and who applied it when.

    Example: apictl migration-history
    """
    found = await either(call).migration_history()
    return Listing([one.model_dump(mode="json") for one in found], None, COLUMNS, TABLE)


@command("rewind")
async def rollback(
    call: Call,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Go back to this revision, or to base. Default: one step.", show_default=False),
    ] = None,
    lock_timeout: LockTimeout = 0.5,
    statement_timeout: StatementTimeout = None,
) -> Item:
    """Take migrations back: what they made is removed, with what is in it.

    Example: apictl rollback
    """
    from api.migrations.schemas import MigrationRolledBack, MigrationUpgrade

    known_fields(call, MigrationRolledBack)
    plan = await service(call).rollback_plan(to)
    for step in plan.steps:
        call.say(f"This takes back {step.id} {step.text}")
    for lost in plan.lost:
        call.say(f"It would cost {lost}")
    for server in plan.served_by:
        call.say(f"A server runs: {server}; it may miss what goes")
    await call.confirm("takes the schema back to", expected=plan.to or "base")
    how = MigrationUpgrade(lock_timeout=lock_timeout, statement_timeout=statement_timeout)
    done = await service(call).rollback(plan, how, dry_run=call.dry_run, say=call.say)
    return Item(done.model_dump(mode="json"), call.changed(changed=True))


@command("rewind")
async def stamp(
    call: Call,
    revision: Annotated[str, typer.Argument(help="The revision, head, or base for none.", show_default=False)],
) -> Item:
    """Say which revision the database is at; nothing else of it changes.

    For a schema that came from elsewhere: from a backup, or from SQL that was run by hand.

    Example: apictl stamp head
    """
    from api.migrations.schemas import MigrationStamped

    known_fields(call, MigrationStamped)
    await call.confirm("says, whatever is there, that this is the revision of the schema:", expected=revision)
    done = await service(call).stamp(revision, dry_run=call.dry_run)
    return Item(done.model_dump(mode="json"), call.changed(changed=done.before != [done.current]))


@command("read", over_http=False)
async def check_models(call: Call) -> Item:
    """Compare the models with the database: exit code 10 if they differ.

    Example: apictl check-models
    """
    found = await authoring(call).check_models()
    return Item(found.model_dump(mode="json"), exit_code=PENDING if found.differences else 0)


@command("source")
async def make_migration(
    call: Call,
    text: Annotated[str, typer.Argument(help="What it does, in a line.", show_default=False)],
) -> Item:
    """Write a migration from the database to the models, and look at what it would do to others.

    Example: apictl make-migration "users have a time zone"
    """
    from api.migrations.schemas import MigrationMade

    known_fields(call, MigrationMade)
    made = await authoring(call).make_migration(text)
    say_findings(call, made.id, made.findings)
    for lost in made.lost_on_rollback:
        call.say(f"Its downgrade cannot bring back what was there: {lost}")
    return Item(made.model_dump(mode="json"), call.changed(changed=True))
