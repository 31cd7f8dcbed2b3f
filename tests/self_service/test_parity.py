"""The same scenario through each door leaves the same rows, audit entries and error codes."""

from typing import Final

import asyncpg

from tests.conftest import SUPERUSER
from tests.support.audit import forget_audit
from tests.support.doors import CliDoor, Door, HttpDoor

ADA: Final = "ada@example.com"


async def scenario(door: Door) -> list[str | None]:
    """Ask for every mail that there is, well and badly; return each step's code."""
    answers = [
        await door.do("create-user", ADA, no_password=True),
        await door.do("create-role", "support", scope="users:read"),
        await door.do("create-service-account", "deploy"),
        await door.do("send-reset", ADA),
        await door.do("send-reset", ADA),
        await door.do("verify-email", ADA),
        await door.do("invite-user", "Eve@EXAMPLE.com", full_name="Eve", role=["support"]),
        await door.do("invite-user", "bob@example.com", role=["nothing"]),
        await door.do("invite-user", ADA),
        await door.do("invite-user", "nobody"),
        await door.do("send-reset", "deploy"),
        await door.do("verify-email", "nobody@example.com"),
        await door.do("deactivate-user", ADA),
        await door.do("send-reset", ADA),
    ]
    return [answer.code for answer in answers]


async def left(database: asyncpg.Connection) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Return what the scenario left, without what differs by nature."""
    mails = await database.fetch(
        "SELECT mails.kind, address, detail->'full_name', detail->'roles', email FROM mails "
        "LEFT JOIN users ON users.id = user_id ORDER BY mails.kind, address"
    )
    entries = await database.fetch(
        "SELECT action, detail FROM audit_entries WHERE door <> 'system' AND target = 'user' ORDER BY action, detail"
    )
    return [tuple(row) for row in mails], [tuple(row) for row in entries]


async def test_both_doors_do_the_same(http_door: HttpDoor, cli_door: CliDoor, database: asyncpg.Connection) -> None:
    found = []
    await forget_audit(database)
    for door in (http_door, cli_door):
        codes = await scenario(door)
        found.append((codes, await left(database)))
        await forget_audit(database)
        await database.execute("DELETE FROM mails; DELETE FROM roles")
        await database.execute("DELETE FROM users WHERE email IS DISTINCT FROM $1", SUPERUSER)
    assert found[0] == found[1]
    codes, (mails, entries) = found[0]
    assert codes[3:] == [
        *(None, None, None, None, "role-not-found", "email-taken", "invalid-input"),
        *("not-for-service-accounts", "user-not-found", None, "user-inactive"),
    ]
    assert [row[:2] for row in mails] == [("invite", "eve@example.com"), ("reset", ADA), ("verify", ADA)]
    actions = [action for action, _ in entries if "send" in str(action) or "invite" in str(action)]
    assert actions == ["user.invite", "user.send_reset", "user.send_verification"]
