"""The HTTP door to migrations."""

from fastapi import APIRouter

from api.core.problems import responses
from api.migrations.dependencies import CurrentMigrations
from api.migrations.schemas import MigrationRun, MigrationStatus

router = APIRouter(prefix="/v1/migrations", tags=["migrations"], responses=responses(401, 403, 503))


@router.get("")
async def migration_status(migrations: CurrentMigrations) -> MigrationStatus:
    """Show where the database stands, and what is pending."""
    return await migrations.migration_status()


@router.post("/upgrade")
async def migrate(migrations: CurrentMigrations) -> MigrationRun:
    """Bring the database to head; at head already, this changes nothing."""
    return await migrations.upgrade()
