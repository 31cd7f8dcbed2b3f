"""Statements for the TAB key, in SQL: SQLAlchemy takes longer to import than a key press may."""

from typing import Final

import asyncpg

MOST: Final = 50

# What it is, and what it is called, of those that begin with $1; by an index, or of the newest.
STATEMENTS: Final = {
    "user": """
        (SELECT email, full_name FROM users WHERE email >= $1 ORDER BY email LIMIT $2)
        UNION ALL (SELECT name, full_name FROM users WHERE name >= $1 ORDER BY name LIMIT $2)""",
    "role": "SELECT name, description FROM roles WHERE name >= $1 ORDER BY name LIMIT $2",
    "session": """
        SELECT sessions.id::text, coalesce(email, name) FROM sessions JOIN users ON users.id = user_id
        WHERE starts_with(sessions.id::text, $1) AND revoked_at IS NULL AND expires_at > now()
        ORDER BY sessions.id DESC LIMIT $2""",
    "api-key": """
        SELECT api_keys.id::text, api_keys.name || ' of ' || coalesce(email, users.name)
        FROM api_keys JOIN users ON users.id = user_id
        WHERE starts_with(api_keys.id::text, $1) AND revoked_at IS NULL ORDER BY api_keys.id DESC LIMIT $2""",
    "signing-key": """
        SELECT id::text, algorithm FROM signing_keys
        WHERE starts_with(id::text, $1) AND retired_at IS NULL ORDER BY number DESC LIMIT $2""",
}


async def beginning_with(connection: asyncpg.Connection, kind: str, start: str) -> list[tuple[str, str]]:
    """Return what there is of a kind that begins so, fifty at most, each with a word about it."""
    rows = await connection.fetch(STATEMENTS[kind], start, MOST)
    return [(name, about or "") for name, about in rows if name.startswith(start)]
