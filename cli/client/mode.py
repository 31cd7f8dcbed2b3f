"""Whether a command works on a server or on a database."""

from typing import TYPE_CHECKING, Any

from cli.options import Kind

if TYPE_CHECKING:
    from api.config import Settings


def chosen_server(kind: Kind, settings: "Settings", options: dict[str, Any]) -> str | None:
    """Return the server that a command works on; None: it works on a database, or knows by itself where.

    Raises:
        BadRequest: It cannot do there what was asked for.
        BadSettings: The environment names both, or a token of somebody else's.
    """
    from api.config import given
    from api.core.errors import BadRequest, BadSettings

    flag: str | None = options.get("server")
    if kind in {"remote", "local"} or (flag is None and settings.server is None):
        return None
    if "server" not in options:
        raise BadRequest(
            "This works on a database only, and APICTL_SERVER names a server",
            hint="run it where the database is, without APICTL_SERVER",
        )
    if flag is None and settings.database_url is not None:
        found = given()
        raise BadSettings(
            f"{found['APICTL_SERVER'].where} and {found['APICTL_DATABASE_URL'].where} name two places to work on",
            hint="unset one of them; --server names a server for one command",
        )
    if options.get("as_user") is not None:
        raise BadRequest("--as works on a database only", hint="a server knows you by your token: take one of theirs")
    return named_server(settings) if flag is None else flag


def named_server(settings: "Settings") -> str | None:
    """Return the server that the settings name.

    Raises:
        BadSettings: The token is set elsewhere: a `.env` that came with a folder names the server, say, and would have
            your token sent there.
    """
    from api.config import given
    from api.core.errors import BadSettings

    if settings.server is None:
        return None
    found = given()
    server = found["APICTL_SERVER"]
    for token in (found.get("APICTL_TOKEN"), found.get("APICTL_TOKEN_FILE")):
        if token is not None and token.file != server.file:
            raise BadSettings(
                f"{server.where} names a server, and {token.where} a token",
                cause="the token may be for another server than this",
                hint="set both in the same place, or name the server by --server",
            )
    return settings.server
