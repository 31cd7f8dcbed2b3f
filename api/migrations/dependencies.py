"""The service of migrations for a request."""

from typing import Annotated

from fastapi import Depends

from api.core.dependencies import CurrentRuntime
from api.migrations.service import MigrationService
from api.tokens.dependencies import CurrentActor


async def get_migration_service(runtime: CurrentRuntime, actor: CurrentActor) -> MigrationService:
    """Return the service of migrations for this request."""
    return MigrationService(runtime.transaction, runtime.patient_engine, actor)


CurrentMigrations = Annotated[MigrationService, Depends(get_migration_service)]
