"""The terminal door to migrations."""

from typing import Annotated, Any

import typer

from cli.context import Call, command
from cli.output import Item, Listing, check_fields

COLUMNS = ("id", "text", "phase", "is_applied", "applied_at", "actor", "door", "host")
TABLE = ("id", "text", "is_applied", "applied_at", "actor", "phase")


def service(call: Call) -> Any:
    """Return the service behind these commands."""
    from api.migrations.service import MigrationService

    return MigrationService(call.runtime.transaction, call.runtime.patient_engine, call.actor)


@command("schema")
async def migrate(
    call: Call,
    to: Annotated[
        str | None, typer.Option("--to", help="Stop at this revision. Default: the newest.", show_default=False)
    ] = None,
    lock_timeout: Annotated[
        float,
        typer.Option("--lock-timeout", help="Seconds that a statement waits for others' locks before another attempt."),
    ] = 0.5,
    statement_timeout: Annotated[
        float | None,
        typer.Option(
            "--statement-timeout", help="Seconds that a statement may take. Default: any number.", show_default=False
        ),
    ] = None,
) -> Item:
    """Bring the database to this version's schema; at head already, this changes nothing.

    Any number of processes may do it at once: one migrates, the others wait for it, for a minute at most. A statement
    that does not get its locks gives up and is tried again, so that nobody's requests wait behind it.

    Example: apictl migrate
    """
    from api.migrations.schemas import MigrationRun, MigrationUpgrade

    # Before anything is done: the run commits by itself.
    check_fields(Item(dict.fromkeys(MigrationRun.model_fields)), call.fields)
    how = MigrationUpgrade(to=to, lock_timeout=lock_timeout, statement_timeout=statement_timeout)
    run = await service(call).upgrade(how, dry_run=call.dry_run, say=call.say)
    for migration in run.applied:
        call.say(f"applied {migration.id} {migration.text}" + (" (undone)" if call.dry_run else ""))
    return Item(run.model_dump(mode="json"), call.changed(changed=bool(run.applied)))


@command("read")
async def migration_status(call: Call) -> Item:
    """Show where the database stands, what is pending, and who did what to it.

    Example: apictl migration-status -o json
    """
    status = await service(call).migration_status()
    return Item(status.model_dump(mode="json"))


@command("read")
async def migration_history(call: Call) -> Listing:
    """List every migration, the newest first: what it is, and who applied it when.

    Example: apictl migration-history
    """
    found = await service(call).migration_history()
    return Listing([one.model_dump(mode="json") for one in found], None, COLUMNS, TABLE)
