"""Alembic's environment: uses the connection that a service hands over, or opens its own when Alembic runs bare."""

import asyncio
import os
import socket
from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from api.config import Settings
from api.core.runtime import Runtime
from api.migrations import crud
from api.migrations.refusals import MigrationRunning
from api.migrations.script import Recorder
from api.models import metadata


def run(connection: Connection) -> None:
    """Run the migrations that the command asks for.

    Where a transaction is open already, they all run in that one. Otherwise each has its own, which it may leave: there
    are things that PostgreSQL does only outside of one.
    """
    recorder = context.config.attributes.get("recorder")
    if recorder is None:
        # By its number: in a container, an account may have no name.
        who = {"actor": f"operator:uid {os.getuid()}", "door": "alembic", "host": socket.gethostname()}
        recorder = Recorder(who)
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
        on_version_apply=recorder,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_bare() -> None:
    """Open the configured database, as `alembic upgrade head` in a clone does.

    Under the lock of `apictl migrate`, which besides waits for others, bounds what it takes, and writes an audit log.
    """
    async with (
        Runtime.open(Settings.load(), pool_size=1) as runtime,
        runtime.patient_engine() as engine,
        AsyncSession(engine) as session,
        engine.connect() as connection,
    ):
        if not await crud.lock(session):
            raise MigrationRunning
        await crud.let_snapshot_go(session)
        await connection.run_sync(run)


def run_offline() -> None:
    """Print the SQL instead of running it."""
    context.configure(
        dialect_name="postgresql",
        # By default, a percent sign would be written twice.
        dialect_opts={"paramstyle": "named"},
        target_metadata=metadata,
        literal_binds=True,
        transaction_per_migration=True,
        output_buffer=context.config.output_buffer,
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
elif context.is_offline_mode():
    run_offline()
else:
    if context.config.config_file_name is not None:
        # Only here: it would silence the loggers of a running application.
        fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    asyncio.run(run_bare())
