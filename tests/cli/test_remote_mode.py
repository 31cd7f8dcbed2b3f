"""What a command says of a database, it says of a server that has the same: byte for byte, but for ids and times."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import pytest
from pydantic import SecretStr

from cli.app import build
from cli.commands import COMMANDS
from tests.cli.test_more import AS_ADA
from tests.conftest import SUPERUSER
from tests.support import postgres
from tests.support.cases import THOROUGH
from tests.support.processes import Apictl, Finished, bare_environment
from tests.support.server import serving

# Commands that only a database can do, or that need neither.
ON_NO_SERVER: Final = {
    *("rollback", "stamp", "check-models", "make-migration"),
    *("serve", "work", "dev", "quickstart"),
    *("login", "logout", "whoami", "completion", "show-config", "bootstrap"),
}
PASSWORD: Final = "turnip lantern quarrel 88"
STATE: Final = """
owner: x
roles: [{name: readers, scopes: [users:read]}]
users: [{email: hugo@example.com, roles: [readers], password: {env: HUGO}}]
service_accounts: [{name: robot, api_keys: [{name: k}]}]
"""
FILE: Final = "email,full_name\neve@example.com,Eve\nbad,\nada@example.com,\n"


@dataclass(frozen=True, slots=True)
class Line:
    """A command line; `{…}` is an id that the world knows by that name."""

    words: str
    stdin: str | None = None
    # What is answered is kept under this name: the id in it.
    kept: str | None = None


def lines(*words: str) -> list[Line]:
    return [Line(text) for text in words]


# One step after the other; what is in one step is independent, and runs at once.
STEPS: Final[list[list[Line]]] = [
    [
        Line("create-user ada@example.com --full-name Ada --no-password -o json", kept="ada"),
        Line("create-user grace@example.com --superuser --password-stdin --fields email,changed", PASSWORD),
        Line("create-user dry@example.com --generate-password --dry-run -o json"),
        Line("create-role support --scope users:read --description Helps -o json --fields name,scopes,changed"),
        Line("create-service-account deploy --full-name Deploys -o yaml"),
        Line("create-token root@example.com --label x -o json", kept="session"),
        Line("create-api-key root@example.com --name k --scope users:read --network 10.1.2.3/8 -o json", kept="key"),
        Line("rotate-keys -o json", kept="signing-key"),
        Line("export-users"),
        Line("migrate -o json"),
        Line("migrate --dry-run --fields changed,dry_run"),
    ],
    [
        *lines(
            "show-user ada@example.com -o json",
            "show-user {ada} -o yaml",
            "show-user deploy",
            "list-users -o json --sort email",
            "list-users -o table --sort email",
            "list-users --limit 1 --sort email",
            "list-users --limit 1 --sort email --all -o jsonl",
            "list-users --search ada --active --no-superusers -o csv",
            "list-service-accounts -o json",
            "show-role support -o json",
            "list-roles -o json",
            # What else it says, of a database or a clock, is not the same from both.
            "doctor --fields status",
            "explain --user ada@example.com --can users:read",
            "list-tokens -o table --live",
            "list-api-keys root@example.com -o json",
            "list-keys --limit 1 --fields algorithm,state",
            "list-factors ada@example.com -o json",
            "migration-status -o json",
            "migration-history -o csv",
            "export-users --format jsonl --with-hashes",
            # What the server refuses, and what is refused before it is asked.
            "show-user nobody@example.com",
            "show-user nobody@example.com -o json",
            "show-user me",
            "show-user a/b -o json",
            "show-user ..",
            "show-user ''",
            "show-role nothing",
            "revoke-token 01900000-0000-7000-8000-000000000009",
            "revoke-token nonsense -o json",
            "list-users --cursor nonsense",
            "list-users --limit 500 -o json",
            "list-users --role Big",
            "list-users --fields nothing",
            "create-user ada@example.com --no-password",
            "create-user nonsense --no-password -o json",
            "create-user unmade@example.com --no-password --fields nothing",
            "create-user ada@example.com --no-password --if-exists skip -o json",
            "create-role superuser -o json",
            "create-service-account deploy",
            "create-service-account deploy --if-exists skip --fields name,changed",
            "create-token root@example.com --scope nonsense",
            "create-api-key deploy --name x --scope users:read --fields key,changed",
            "update-user ada@example.com",
            "update-user ada@example.com --full-name x --if-version 9",
            "update-user ada@example.com --full-name x --dry-run -o json --fields full_name,dry_run",
            "promote-user deploy",
            "rotate-keys --algorithm nonsense",
            "rotate-keys --dry-run --fields algorithm,changed",
            "retire-key {signing-key} --dry-run --fields id,changed",
            "delete-user ada@example.com",
            "delete-user ada@example.com --dry-run -o json --fields email,changed",
            "delete-role support",
            "reset-factors ada@example.com --dry-run --fields changed",
            "send-reset ada@example.com --dry-run --fields email,changed",
            "verify-email deploy",
            "invite-user ada@example.com",
            "invite-user eva@example.com --role nothing -o json",
            "invite-user nonsense",
            "revoke-tokens ada@example.com --dry-run -o json --fields revoked",
            "create-token ada@example.com --dry-run -o json --fields access_token,changed",
            "rotate-api-key {key} --dry-run --overlap 60 --fields key,dry_run",
            "migrate --to nonsense",
        ),
        Line("create-user new@example.com --password-stdin -o json", "short"),
        Line("introspect-token -o json", "nonsense"),
        Line("import-users - --dry-run -o json --fields rows,failed,changed", FILE),
        Line("import-users -", "nonsense\n"),
        Line("plan -f -", STATE),
        Line("plan -f - -o table", STATE),
        Line("plan -f - --fields unchanged", "owner: x\nowner: y"),
        Line("apply -f - --show-keys --dry-run", STATE.replace("password: {env: HUGO}", "full_name: Hugo")),
        Line("apply -f - --show-keys", STATE),
        Line("apply -f - --fields unchanged", STATE),
        Line("export-state --owner x"),
        Line("export-state --owner x -o json"),
    ],
    [Line("apply -f - --show-keys -o table", STATE.replace("password: {env: HUGO}", "full_name: Hugo"))],
    [
        Line("plan -f -", "{owner: y, roles: [{name: readers, scopes: []}]}"),
        Line("apply -f - -o json", "owner: x"),
    ],
    [Line("apply -f - --yes -o json", "owner: x")],
    [
        Line("import-users - -o json", FILE),
        Line("set-password ada@example.com --password-stdin -o json --fields email,changed", PASSWORD),
        Line("rotate-api-key {key} -o json"),
        Line("grant-role grace@example.com support -o json --fields roles,changed"),
        Line("update-role support --scope users:read --scope tokens:read -o json --fields scopes,changed"),
        Line("revoke-token {session} -o json --fields changed"),
        Line("demote-user root@example.com --dry-run -o json --fields is_superuser,changed"),
    ],
    [
        *lines("update-user ada@example.com --full-name 'Ada King' -o json", "revoke-token {session}"),
        *lines(
            "revoke-api-key {key} -o json --fields id,changed",
            "revoke-role grace@example.com support -o json --fields roles",
        ),
        *lines("revoke-tokens grace@example.com --yes -o json", "reset-factors grace@example.com --yes -o json"),
        *lines("retire-key {signing-key} --yes -o json", "list-users --sort email --limit 2"),
    ],
    lines(
        "send-reset ada@example.com -o json",
        "verify-email ada@example.com --fields email,changed",
        "invite-user eva@example.com --full-name Eva --role support --fields email,roles,changed",
    ),
    lines(
        "deactivate-user ada@example.com -o json --fields is_active,changed",
        "delete-role support --yes -o json --fields name,changed",
        "revoke-api-key {key}",
    ),
    lines("deactivate-user ada@example.com", "create-token ada@example.com"),
    lines("activate-user ada@example.com -o json --fields is_active,changed"),
    lines("promote-user ada@example.com --fields is_superuser,changed"),
    lines("demote-user ada@example.com -o json"),
    lines("delete-user ada@example.com --yes -o json"),
    lines("delete-user ada@example.com --yes", "show-user ada@example.com", "list-users --sort email -o csv"),
    lines(
        "list-audit --target user --limit 3 --fields action,target,outcome",
        "list-audit --action Nonsense -o json",
        "export-audit --until 2001-01-01",
        "export-audit --since nonsense",
        "verify-audit --fields entries",
        "verify-audit --since /nowhere",
    ),
]

MASKS: Final = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?", "TIME"),
    (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "JWT"),
    (r"apictl_[\w-]+", "SECRET"),
    (r"\$argon2id\$[^\s\"]+", "HASH"),
    (r'("+x"+: "+)[\w-]{43}"', r'\1POINT"'),
    (r"\\+x[0-9a-f]{32,}", "BYTES"),
    (r"(--cursor )\S+", r"\1CURSOR"),
    (r'("next_cursor": )"[^"]+"', r'\1"CURSOR"'),
    (r'("exp": )\d+', r"\1SECONDS"),
)
ROWS: Final = "SELECT {} FROM {} row"
# Of the trail, what was done to what; by whom, and by which door, differs.
STORED: Final = {
    "audit_entries": "concat_ws(' ', action, target, target_id IS NULL, outcome, detail)",
    "mails": "concat_ws(' ', kind, address, user_id, detail->'roles')",
}


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text)
    return text


@dataclass(slots=True)
class World:
    """A database, worked on directly or through a server."""

    apictl: Apictl
    environment: dict[str, str]
    more: tuple[str, ...] = ()
    known: dict[str, str] = field(default_factory=dict)
    database_url: str = ""

    async def run(self, line: Line) -> Finished:
        words = [self._filled(word.strip("'")) for word in re.findall(r"'[^']*'|\S+", line.words)]
        ended = await self.apictl(*words, *self.more, environment=self.environment, stdin=line.stdin)
        if line.kept is not None:
            found = ended.json()
            self.known[line.kept] = found.get("id") or found["session_id"]
        return ended

    def _filled(self, word: str) -> str:
        return self.known[word[1:-1]] if word.startswith("{") else word

    async def stored(self) -> dict[str, list[str]]:
        """Return the rows of each table; not those of servers, who write by themselves that they live, nor links.

        Nor the keys under which a server is asked: whoever works on a database needs none.
        """
        left_out = ["servers", "audit_links", "idempotency_keys"]
        async with postgres.connected(self.database_url) as database:
            named = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL($1)"
            tables = {row[0]: "row::text" for row in await database.fetch(named, left_out)} | STORED
            return {
                table: sorted(masked(row[0]) for row in await database.fetch(ROWS.format(shown, table)))
                for table, shown in tables.items()
            }

    async def said(self, line: Line) -> tuple[int, str, str]:
        ended = await self.run(line)
        return ended.code, masked(ended.out), masked(ended.err)


@pytest.fixture
async def worlds(
    apictl: Apictl, server_url: str, template_with_superuser: str, secret_key: SecretStr
) -> AsyncIterator[tuple[World, World]]:
    """Two equal databases: one that is worked on, and one that a server has."""
    async with (
        postgres.database(server_url, copy_of=template_with_superuser) as here,
        postgres.database(server_url, copy_of=template_with_superuser) as there,
    ):
        found = [
            bare_environment(
                APICTL_DATABASE_URL=url,
                APICTL_SECRET_KEY=secret_key.get_secret_value(),
                APICTL_REGISTRATION="invitation",
                APICTL_SMTP_URL="file:mail",
                APICTL_WORK_IN_SERVE="false",
            )
            for url in (here, there)
        ]
        # What the server is asked with is in both.
        line = ("create-token", SUPERUSER, "--fields", "access_token")
        tokens = [(await apictl(*line, environment=environment)).out.strip() for environment in found]
        with serving("serve", environment=found[1], start=apictl.start) as server:
            asking = bare_environment(APICTL_TOKEN=tokens[1])
            yield (
                World(apictl, found[0], database_url=here),
                World(apictl, asking, ("--server", server.url), database_url=there),
            )


def test_every_command_is_here() -> None:
    compared = {line.words.split()[0] for step in STEPS for line in step}
    assert compared | ON_NO_SERVER == set(COMMANDS), "compare it in STEPS, or say that it works on no server"
    picked = {line.words.split()[0] for step in STEPS for line in step if " --fields " in line.words}
    assert picked >= {name for name in compared if any("--dry-run" in one.opts for one in build(name).params)}
    taking = {name for name in COMMANDS if any("--server" in one.opts for one in build(name).params)}
    assert taking == compared


async def test_the_same_in_both_modes(worlds: tuple[World, World]) -> None:
    differ = []
    codes = set()
    for step in STEPS:
        # Each in turn where the order of what is made shows in lists.
        for group in [[line] for line in step] if any(line.kept for line in step) else [step]:
            said = await asyncio.gather(*(world.said(line) for line in group for world in worlds))
            codes |= {code for code, _, _ in said}
            differ += [
                (line.words, *pair)
                for line, pair in zip(group, zip(said[::2], said[1::2], strict=True), strict=True)
                if pair[0] != pair[1]
            ]
    assert not differ, "\n\n".join("\n".join(map(str, one)) for one in differ)
    assert codes == {0, 2, 3, 5, 6, 9, 10}
    here, there = [await world.stored() for world in worlds]
    assert {table: rows for table, rows in here.items() if rows != there[table]} == {}


NARROW: Final = ("create-user", "list-users", "create-token", "delete-user", "import-users", "migration-status")


async def test_the_same_is_forbidden_in_both_modes(worlds: tuple[World, World]) -> None:
    here, there = worlds
    for world in worlds:
        await world.run(Line("create-user ada@example.com --no-password"))
        await world.run(Line(f"create-token {SUPERUSER} -o json", kept="session"))
        await world.run(Line(f"create-api-key {SUPERUSER} --name k -o json", kept="key"))
        await world.run(Line("rotate-keys -o json", kept="signing-key"))
        await world.run(Line("create-role support --scope users:read"))
    token = (await there.run(Line("create-token ada@example.com --fields access_token"))).out.strip()
    as_ada = World(here.apictl, here.environment, ("--as", "ada@example.com"), here.known)
    by_ada = World(there.apictl, there.environment | {"APICTL_TOKEN": token}, there.more, there.known)
    names = set(AS_ADA) - ON_NO_SERVER if THOROUGH else NARROW
    sent = {"import-users": "email\n", "plan": "owner: x", "apply": "owner: x"}
    table = [Line(" ".join([name, *AS_ADA[name]]), sent.get(name, "x")) for name in names]
    said = await asyncio.gather(*(world.said(line) for line in table for world in (as_ada, by_ada)))
    differ = [
        (line.words, *pair)
        for line, pair in zip(table, zip(said[::2], said[1::2], strict=True), strict=True)
        if pair[0] != pair[1]
    ]
    assert not differ, "\n\n".join("\n".join(map(str, one)) for one in differ)
    noted = [[row for row in (await world.stored())["audit_entries"] if "refused" in row] for world in worlds]
    assert noted[0] == noted[1]
    assert len(noted[0]) >= 3
    assert {said[1][0] for said in [(line, one) for line, one in zip(table, said[::2], strict=True)]} <= {0, 3, 4}
