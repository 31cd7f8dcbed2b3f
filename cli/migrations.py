"""The terminal door to migrations."""

from typing import Any

from cli.context import Call, command
from cli.output import Item, check_fields


def service(call: Call) -> Any:
    """Return the service behind these commands."""
    from api.migrations.service import MigrationService

    return MigrationService(call.runtime.transaction, call.runtime.patient_engine, call.actor)


@command("schema")
async def migrate(call: Call) -> Item:
    """Bring the database to this version's schema; at head already, this changes nothing.

    Example: apictl migrate
    """
    from api.migrations.schemas import MigrationRun

    # Before anything is done: the run commits by itself.
    check_fields(Item(dict.fromkeys(MigrationRun.model_fields)), call.fields)
    run = await service(call).upgrade(dry_run=call.dry_run)
    for migration in run.applied:
        call.say(f"applied {migration.id} {migration.text}" + (" (undone)" if call.dry_run else ""))
    return Item(run.model_dump(mode="json"), call.changed(changed=bool(run.applied)))


@command("read")
async def migration_status(call: Call) -> Item:
    """Show where the database stands, and what is pending.

    Example: apictl migration-status -o json
    """
    status = await service(call).migration_status()
    return Item(status.model_dump(mode="json"))
