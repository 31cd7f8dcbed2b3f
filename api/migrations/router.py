"""The HTTP door to migrations."""

from typing import Annotated

from fastapi import APIRouter, Body, Response

from api.core.answers import tell_changed
from api.core.dependencies import DryRun
from api.core.problems import responses
from api.migrations.dependencies import CurrentMigrations
from api.migrations.schemas import MigrationHistory, MigrationRun, MigrationStatus, MigrationUpgrade

AS_USUAL = MigrationUpgrade()
router = APIRouter(prefix="/v1/migrations", tags=["migrations"], responses=responses(401, 403, 503))


@router.get("")
async def migration_status(migrations: CurrentMigrations) -> MigrationStatus:
    """Show where the database stands, what is pending, and who did what to it."""
    return await migrations.migration_status()


@router.get("/history")
async def migration_history(migrations: CurrentMigrations) -> MigrationHistory:
    """List every migration, the newest first: what it is, and who applied it when."""
    return MigrationHistory(items=await migrations.migration_history(), next_cursor=None)


@router.post("/upgrade", responses=responses(400, 404, 409, 413, 422))
async def migrate(
    migrations: CurrentMigrations,
    response: Response,
    dry_run: DryRun,
    how: Annotated[MigrationUpgrade, Body()] = AS_USUAL,
) -> MigrationRun:
    """Bring the database to this version's schema; at head already, this changes nothing. It never goes back."""
    run = await migrations.upgrade(how, dry_run=dry_run)
    tell_changed(response, changed=bool(run.applied))
    return run
