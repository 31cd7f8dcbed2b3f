"""What the tests of states share: a state, the tables that it is about, and the commands."""

import json
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from tests.support.processes import Apictl, Finished

ADA, BOB = "ada@example.com", "bob@example.com"
KEY: Final = {"name": "web site", "scopes": ["users:read"], "networks": ["10.0.0.0/8"], "expires_in": 3600}
STATE: Final[dict[str, Any]] = {
    "owner": "accounts",
    "roles": [{"name": "support", "description": "Helps", "scopes": ["users:read", "tokens:read"]}],
    "users": [
        {"email": "Ada@example.com", "full_name": "Ada", "is_superuser": True},
        {"email": BOB, "roles": ["support"], "is_active": False},
    ],
    "service_accounts": [{"name": "deploy", "roles": ["support"], "api_keys": [KEY]}],
}
KEYLESS: Final = {"service_accounts": [{"name": "ci"}]}
NAMES: Final = ["role support", f"user {ADA}", f"user {BOB}", "service-account deploy", "api-key deploy/web site"]
ROWS: Final = {
    "users": """SELECT kind, email, name, full_name, is_active, is_superuser, roles, version FROM users
        WHERE email IS DISTINCT FROM 'root@example.com' ORDER BY email, name""",
    "roles": "SELECT name, description, scopes, version FROM roles ORDER BY name",
    "keys": "SELECT name, scopes, networks, expires_at - created_at, revoked_at IS NULL FROM api_keys ORDER BY id",
    "ownerships": """SELECT owner, kind, name, target_id IS NULL, made_at IS NULL, applied FROM ownerships
        ORDER BY owner, kind, name""",
    "audit": "SELECT action, target, detail FROM audit_entries ORDER BY at, id",
}  # fmt: skip


async def rows(database: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    """Return everything that a state is about, but ids and times."""
    return {name: await database.fetch(statement) for name, statement in ROWS.items()}


class Terminal:
    """The commands, with the state on standard input."""

    def __init__(self, apictl: Apictl, environment: Mapping[str, str]) -> None:
        self._apictl = apictl
        self._environment = environment

    async def __call__(self, command: str, state: Any, *options: str) -> Finished:
        text = state if isinstance(state, str) else json.dumps(state)
        return await self._apictl(command, "-f", "-", *options, environment=self._environment, stdin=text)

    async def run(self, *line: str) -> Finished:
        ended = await self._apictl(*line, environment=self._environment)
        assert ended.code == 0, ended.err
        return ended


def changes(answer: Mapping[str, Any]) -> list[str]:
    """Return a plan's changes in short."""
    return [f"{change['action']} {change['kind']} {change['name']}" for change in answer["changes"]]


def machine(owner: str, **terms: Any) -> dict[str, Any]:
    """Return a state with a service account and its key."""
    key = {"name": "k", "expires_in": 3600} | terms
    return {"owner": owner, "service_accounts": [{"name": "ci", "api_keys": [key]}]}
