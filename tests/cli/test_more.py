"""What the terminal offers beside the commands themselves: acting as somebody, all pages."""

import socket
from typing import Final

import asyncpg
import httpx2
import pytest

from api.core.errors import BadRequest
from api.users.models import User
from cli.app import build
from cli.commands import COMMANDS
from cli.main import understood
from cli.serving import url
from tests.conftest import SUPERUSER
from tests.support.processes import Apictl, bare_environment


async def test_as_does_what_that_user_may(apictl: Apictl, environment: dict[str, str]) -> None:
    for line in (
        ["create-user", "ada@example.com", "--no-password"],
        ["create-user", SUPERUSER, "--no-password", "--superuser"],
    ):
        assert (await apictl(*line, environment=environment)).code == 0
    forbidden = await apictl("list-users", "--as", "ada@example.com", environment=environment)
    assert (forbidden.code, "users:read" in forbidden.err) == (4, True)
    assert (await apictl("list-users", "--as", SUPERUSER, environment=environment)).code == 0
    own = await apictl("show-user", "ada@example.com", "--as", "ada@example.com", environment=environment)
    assert own.code == 0
    hidden = await apictl("show-user", SUPERUSER, "--as", "ada@example.com", environment=environment)
    assert hidden.code == 3
    assert (await apictl("list-users", "--as", "none@example.com", environment=environment)).code == 3
    await apictl("deactivate-user", "ada@example.com", environment=environment)
    inactive = await apictl("show-user", "ada@example.com", "--as", "ada@example.com", environment=environment)
    assert (inactive.code, "deactivated" in inactive.err) == (4, True)


AS_ADA: Final = {
    "create-user": ["eve@example.com", "--no-password"],
    "show-user": [SUPERUSER],
    "list-users": [],
    "update-user": [SUPERUSER, "--full-name", "x"],
    "set-password": [SUPERUSER, "--generate-password"],
    "activate-user": [SUPERUSER],
    "deactivate-user": [SUPERUSER],
    "promote-user": ["ada@example.com"],
    "demote-user": [SUPERUSER],
    "delete-user": [SUPERUSER, "--yes"],
    "invite-user": ["eve@example.com"],
    "send-reset": [SUPERUSER],
    "verify-email": [SUPERUSER],
    "create-service-account": ["deploy"],
    "list-service-accounts": [],
    "create-role": ["other", "--scope", "users:read"],
    "show-role": ["support"],
    "list-roles": [],
    "update-role": ["support", "--description", "x"],
    "delete-role": ["support", "--yes"],
    "grant-role": ["ada@example.com", "support"],
    "revoke-role": [SUPERUSER, "support"],
    "explain": ["--user", SUPERUSER, "--can", "users:read"],
    "create-token": [SUPERUSER],
    "list-tokens": [SUPERUSER],
    "revoke-token": ["{session}"],
    "revoke-tokens": [SUPERUSER, "--yes"],
    "introspect-token": [],
    "create-api-key": [SUPERUSER, "--name", "x"],
    "list-api-keys": [SUPERUSER],
    "rotate-api-key": ["{key}"],
    "revoke-api-key": ["{key}"],
    "import-users": ["-"],
    "export-users": [],
    "plan": ["-f", "-"],
    "apply": ["-f", "-"],
    "export-state": ["--owner", "x"],
    "list-factors": [SUPERUSER],
    "reset-factors": [SUPERUSER, "--yes"],
    "list-keys": [],
    "rotate-keys": [],
    "retire-key": ["{signing-key}", "--yes"],
    "migration-status": [],
    "migration-history": [],
    "check-models": [],
    "list-audit": [],
    "export-audit": [],
    "verify-audit": [],
}


async def test_whoever_may_write_users_sets_a_password(
    apictl: Apictl, environment: dict[str, str], superuser: User, admin: httpx2.AsyncClient
) -> None:
    """And needs no other scope for what the command says besides."""
    await admin.post("/v1/roles", json={"name": "helper", "scopes": ["users:write"]})
    for email in ("helper@example.com", "ada@example.com"):
        await admin.post("/v1/users", json={"email": email})
    await admin.put("/v1/users/helper@example.com/roles/helper")
    line = ("set-password", "ada@example.com", "--generate-password", "--as", "helper@example.com")
    ended = await apictl(*line, environment=environment)
    assert (ended.code, "reset-factors" in ended.err) == (0, True), ended.err


async def test_every_command_does_only_what_that_user_may(
    apictl: Apictl, environment: dict[str, str], superuser: User, database: asyncpg.Connection
) -> None:
    takes_as = {name for name in COMMANDS if any(one.name == "as_user" for one in build(name).params)}
    assert takes_as == set(AS_ADA)
    for line in (
        ["create-user", "ada@example.com", "--no-password"],
        ["create-role", "support", "--scope", "users:read"],
    ):
        assert (await apictl(*line, environment=environment)).code == 0
    fields = "session_id,access_token"
    known = {
        "{session}": await apictl("create-token", SUPERUSER, "--fields", fields, environment=environment),
        "{signing-key}": await apictl("rotate-keys", "-o", "ids", environment=environment),
        "{key}": await apictl(
            "create-api-key", SUPERUSER, "--name", "x", "--fields", "id,key", environment=environment
        ),
    }

    async def rows() -> list[list[asyncpg.Record]]:
        tables = ("users", "roles", "sessions", "api_keys", "signing_keys")
        return [await database.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in tables]  # noqa: S608 - ours

    before = await rows()
    for verb, arguments in AS_ADA.items():
        filled = [known[one].out.split()[0] if one in known else one for one in arguments]
        shown = {"introspect-token": "token", "plan": "owner: x", "apply": "owner: x"}.get(verb)
        refused = await apictl(verb, *filled, "--as", "ada@example.com", environment=environment, stdin=shown)
        assert refused.code in {3, 4}, (verb, refused)
    assert await rows() == before
    # Whoever may not change something is written down; whoever may not look, or sees nothing to change, is not.
    hidden = {"delete-user", "reset-factors", "revoke-token", "rotate-api-key", "revoke-api-key"}
    # It looks before it changes anything.
    hidden |= {"apply"}
    noted = await database.fetch("SELECT detail->>'operation' AS name FROM audit_entries WHERE outcome = 'refused'")
    names = {row["name"].replace("_", "-") for row in noted}
    assert names == {name for name in AS_ADA if any(one.name == "dry_run" for one in build(name).params)} - hidden


async def test_all_pages(apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection) -> None:
    await database.execute(
        "INSERT INTO users (id, email) "
        "SELECT gen_random_uuid(), 'u' || n || '@example.com' FROM generate_series(1, 405) n"
    )
    await database.execute(
        "INSERT INTO sessions (id, user_id, expires_at) SELECT gen_random_uuid(), id, now() + '1 day' FROM users"
    )
    for line in (["list-users"], ["list-tokens"]):
        listed = await apictl(*line, "--all", "-o", "ids", environment=environment)
        assert (listed.code, listed.err) == (0, "")
        assert len(set(listed.out.split())) == 405
        cut = await apictl(*line, "--limit", "3", "-o", "ids", environment=environment)
        assert (len(cut.out.split()), "--all" in cut.err) == (3, True)


def test_a_bug_is_named_with_its_place_and_without_its_words() -> None:
    secret = "hunter2"
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError(secret)
    failure = understood(raised.value)
    assert (failure.code, failure.kind.exit_code) == ("internal-error", 1)
    assert "RuntimeError" in (failure.cause or "")
    assert __file__ in (failure.cause or "")
    assert secret not in str(failure.problem())
    with pytest.raises(SyntaxError) as broken:
        compile("def x(:", "a_feature.py", "exec")
    assert "a_feature.py:1" in (understood(broken.value).cause or "")
    ours = BadRequest("x")
    assert understood(ours) is ours
    assert "somewhere" in (understood(ZeroDivisionError()).cause or "")


def test_addresses_are_printed_as_a_browser_takes_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert url(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"
    if socket.has_ipv6:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
            assert url(listening) == f"http://[::1]:{listening.getsockname()[1]}"


async def test_a_dry_run_shows_no_token(apictl: Apictl, environment: dict[str, str], superuser: User) -> None:
    """Its signature would be good for everybody who verifies it by our public keys."""
    ended = await apictl("create-token", SUPERUSER, "--dry-run", "-o", "json", environment=environment)
    assert (ended.code, ended.json()["access_token"], ended.json()["refresh_token"]) == (0, "dry run", "dry run")


async def test_an_impossible_port(apictl: Apictl) -> None:
    environment = bare_environment(APICTL_DATABASE_URL="postgresql://u:s3cret@127.0.0.1:99999/db")
    ended = await apictl("list-users", environment=environment)
    assert (ended.code, "65535" in ended.err, "s3cret" in ended.err) == (12, True, False)
