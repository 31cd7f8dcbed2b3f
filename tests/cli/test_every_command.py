"""The contract of the terminal, held by every command: a new one fails here until it has its line.

Each runs on one database, in the order of LINES: tried, refused without a confirmation, done.
"""

from pathlib import Path
from typing import Final

import asyncpg

from api.users.models import User
from cli.app import build
from cli.commands import COMMANDS
from cli.options import COMMON
from tests.support.doors import HTTP_VERBS
from tests.support.processes import Apictl, Finished, bare_environment

EVE: Final = "eve@example.com"
LINES: Final = {
    "create-user": [EVE, "--no-password"],
    "show-user": [EVE],
    "list-users": [],
    "update-user": [EVE, "--full-name", "Eve"],
    "set-password": [EVE, "--generate-password"],
    "deactivate-user": [EVE],
    "activate-user": [EVE],
    "promote-user": [EVE],
    "demote-user": [EVE],
    "send-reset": [EVE],
    "verify-email": [EVE],
    "invite-user": ["guest@example.com"],
    "list-factors": [EVE],
    "reset-factors": [EVE, "--yes"],
    "create-service-account": ["deploy"],
    "list-service-accounts": [],
    "create-role": ["helper", "--scope", "users:read"],
    "show-role": ["helper"],
    "list-roles": [],
    "update-role": ["helper", "--description", "x"],
    "grant-role": [EVE, "helper"],
    "explain": ["--user", EVE, "--can", "users:read"],
    "revoke-role": [EVE, "helper"],
    "delete-role": ["helper", "--yes"],
    "create-token": [EVE],
    "list-tokens": [EVE],
    "introspect-token": [],
    "revoke-token": ["{create-token}"],
    "revoke-tokens": [EVE, "--yes"],
    "create-api-key": [EVE, "--name", "x"],
    "list-api-keys": [EVE],
    "rotate-api-key": ["{create-api-key}"],
    "plan": ["-f", "-"],
    # Replaces the key, so that it asks before.
    "apply": ["-f", "-", "--show-keys", "--take-over", "--yes"],
    "export-state": ["--owner", "x"],
    "revoke-api-key": ["{create-api-key}"],
    "rotate-keys": [],
    "list-keys": [],
    "retire-key": ["{rotate-keys}", "--yes"],
    "import-users": ["-"],
    "export-users": [],
    "delete-user": [EVE, "--yes"],
    "check-models": [],
    "rollback": ["--yes"],
    "migrate": [],
    "bootstrap": ["ops@example.com", "--no-password"],
    "stamp": ["head", "--yes"],
    "migration-status": [],
    "migration-history": [],
    "list-audit": [],
    "export-audit": [],
    "verify-audit": [],
    "show-config": [],
    "doctor": [],
    "logout": [],
    "completion": ["bash"],
}
ELSEWHERE: Final = {
    "login": "needs a server and a person: tests/cli/test_remote.py",
    "whoami": "needs a login: tests/cli/test_remote.py",
    "serve": "runs until it is told to stop: tests/cli/test_serve.py",
    "work": "runs until it is told to stop: tests/mail/test_sending.py",
    "dev": "runs until it is told to stop: tests/cli/test_serve.py",
    "quickstart": "runs until it is told to stop: tests/cli/test_serve.py",
    "make-migration": "writes a file, and needs a model that has changed: tests/migrations/test_authoring.py",
}
NOT_IN_VERBS: Final = {"apply", "bootstrap", "import-users", "rollback", "stamp"}
STATE: Final = f"{{owner: x, users: [{{email: {EVE}, api_keys: [{{name: x, networks: [10.0.0.0/8]}}]}}]}}"
# Secrets are shown of what is there, and a dry run leaves nothing.
ONLY_DONE: Final = {"generated_password"}
# What CI and people set to have colours wherever they go.
FORCED: Final = {"GITHUB_ACTIONS": "true", "FORCE_COLOR": "1", "PY_COLORS": "1", "CLICOLOR_FORCE": "1"}


def options(name: str) -> set[str]:
    """Return the names of a command's parameters."""
    return {parameter.name for parameter in build(name).params}


async def rows(database: asyncpg.Connection) -> dict[str, str]:
    """Return a checksum of each table; not of attempts, which count whatever is undone."""
    named = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'throttles'"
    tables = [row[0] for row in await database.fetch(named)]
    checksum = "SELECT md5(string_agg(row::text, ' ' ORDER BY row::text)) FROM {} row"
    return {table: await database.fetchval(checksum.format(table)) for table in tables}


def test_every_command_has_its_line() -> None:
    assert {*LINES, *ELSEWHERE} == set(COMMANDS)


def test_every_command_has_the_common_options() -> None:
    # The script for a shell is read when a shell starts: it needs no settings, and has one form.
    assert all(set(COMMON) <= options(name) for name in set(COMMANDS) - {"completion"})


def test_whatever_changes_a_row_can_be_tried() -> None:
    writes = {name for name, (method, *_) in HTTP_VERBS.items() if method != "GET"}
    assert {name for name in COMMANDS if "dry_run" in options(name)} == writes | NOT_IN_VERBS


async def test_every_command_does_what_it_says_and_nothing_else(
    apictl: Apictl, environment: dict[str, str], superuser: User, database: asyncpg.Connection, tmp_path: Path
) -> None:
    """What is tried, or not confirmed, leaves every row; what is done says so, in JSON, with `-q` not a word more."""
    own = environment | FORCED | {"XDG_CONFIG_HOME": str(tmp_path)}
    known: dict[str, str] = {}
    sent = {"import-users": "email\nnew@example.com\n", "plan": "owner: x", "apply": STATE}

    async def run(name: str, *more: str, without: str = "", eve: str = EVE) -> Finished:
        """Run a command; Eve is named so."""
        line = [known.get(one, one).replace(EVE, eve) for one in LINES[name] if one != without]
        ended = await apictl(name, *line, *more, environment=own, stdin=sent.get(name))
        assert "\x1b" not in ended.out + ended.err, name
        return ended

    for name in LINES:
        before = await rows(database)
        takes = options(name)
        if "yes" in takes:
            refused = await run(name, without="--yes")
            assert (refused.code, refused.out, "--yes" in refused.err) == (2, "", True), (name, refused)
        # Whoever is named by an address is the same one by their id.
        by_id = known.get("{create-user}", EVE)
        tried = await run(name, "--dry-run", "-o", "json", eve=by_id) if "dry_run" in takes else None
        assert await rows(database) == before, f"{name} --dry-run changed something"
        done = await run(name, *(["-q", "-o", "json"] if "quiet" in takes else []))
        assert (done.code, done.err) == (0, ""), (name, done)
        if name in {"completion", "export-users", "export-audit"}:
            continue
        answer = done.json()
        known[f"{{{name}}}"] = str(answer.get("id", answer.get("session_id")))
        sent |= {"introspect-token": answer["access_token"]} if name == "create-token" else {}
        after = await rows(database)
        # Whoever stamps what is so already is noted all the same.
        is_changed = any(after[table] != before.get(table) for table in set(after) - {"audit_entries", "audit_links"})
        if tried is None:
            assert not is_changed, f"{name} changed something"
            # As a person has it, who may name the user by their id.
            shown = await run(name, "-o", "table", eve=by_id)
            assert (shown.code, bool(shown.out)) == (0, True), (name, shown)
            continue
        assert (tried.code, tried.json()["dry_run"]) == (0, True), (name, tried)
        assert set(tried.json()) - {"dry_run"} == set(answer) - ONLY_DONE - {"dry_run"}, name
        assert (tried.json()["changed"], answer["changed"]) == (is_changed, is_changed), name


async def test_every_command_shows_its_help_and_refuses_what_it_does_not_know(apictl: Apictl) -> None:
    root = [await apictl(word, environment=bare_environment(**FORCED)) for word in ("--help", "-h")]
    assert root[0] == root[1]
    assert (root[0].code, root[0].err, "\x1b" in root[0].out) == (0, "", False)
    for name in COMMANDS:
        shown = await apictl(name, "-h", environment=bare_environment(**FORCED))
        assert (shown.code, shown.err) == (0, ""), name
        first, example = shown.out.split("\n\n")[:2]
        assert first.startswith(f"Usage: apictl {name}")
        assert example.startswith(f"Example: apictl {name}")
        refused = await apictl(name, "--no-such-option", environment=bare_environment(**FORCED))
        assert (refused.code, refused.out, refused.err.splitlines()[1]) == (2, "", f"hint: see: apictl {name} --help")
        assert "\x1b" not in shown.out + refused.err
        # `-h` is one of the names of `--help`: what it prints is the same.
        assert {"-h", "--help"} <= set(build(name).context_settings["help_option_names"])
