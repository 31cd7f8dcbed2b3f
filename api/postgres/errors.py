"""The failures that only the embedded PostgreSQL has; the rest are `BadSettings` with their own sentences."""

from api.core.errors import BadSettings, DatabaseUnreachable


class NoDatabase(BadSettings):
    """There is neither a URL nor a data folder: most often an operator in the wrong folder."""

    code = "no-database"
    title = "There is no database here"


class EmbeddedPostgresFailed(DatabaseUnreachable):
    """The embedded server could not be created, started or joined."""

    code = "embedded-postgres-failed"
    title = "The embedded PostgreSQL did not start"
