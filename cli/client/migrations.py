"""Migrations on a server: the methods of their service that HTTP has, as requests."""

from collections.abc import Callable

from api.migrations.schemas import MigrationApplied, MigrationHistory, MigrationRun, MigrationStatus, MigrationUpgrade
from cli.client.server import Server


class MigrationClient:
    """The version of the schema; each method is that of its service."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def migration_status(self) -> MigrationStatus:
        return await self._server.get("/v1/migrations", MigrationStatus)

    async def migration_history(self) -> list[MigrationApplied]:
        return (await self._server.get("/v1/migrations/history", MigrationHistory)).items

    async def upgrade(self, how: MigrationUpgrade, *, dry_run: bool, say: Callable[[str], None]) -> MigrationRun:
        # The request says whether it is a dry run; and what happens meanwhile, HTTP cannot.
        del dry_run, say
        path = "/v1/migrations/upgrade"
        return (await self._server.change("POST", path, MigrationRun, body=how, patient=True)).body
