"""What a terminal offers at the TAB key, asked of a database that is there already."""

from typing import Final, Literal

from api.config import Settings
from api.core.actor import Actor, Scope
from api.core.connecting import connect
from api.postgres.embedded import EmbeddedPostgres
from api.suggestions import crud

Kind = Literal["user", "role", "session", "api-key", "signing-key"]
SCOPES: Final[dict[Kind, Scope]] = {
    "user": Scope.USERS_READ,
    "role": Scope.ROLES_READ,
    "session": Scope.TOKENS_READ,
    "api-key": Scope.API_KEYS_READ,
    "signing-key": Scope.SIGNING_KEYS_READ,
}


class SuggestionService:
    """Suggests what could be typed; one instance serves one call."""

    def __init__(self, settings: Settings, actor: Actor) -> None:
        """Serve one call, over a connection of its own."""
        self._settings = settings
        self._actor = actor

    async def suggest(self, kind: Kind, start: str) -> list[tuple[str, str]]:
        """Return what there is of a kind that begins so, each with a word about it; no database is started for it.

        Raises:
            MissingScope: The actor may not see it.
            Exception: The database does not answer.
        """
        self._actor.require(SCOPES[kind])
        url = self._settings.database_url
        where = url.get_secret_value() if url else EmbeddedPostgres(self._settings.home).running_url
        if where is None:
            return []
        connection = await connect(where, self._settings, statement_cache_size=0)
        try:
            return await crud.beginning_with(connection, kind, start)
        finally:
            connection.terminate()
