"""What the terminal reads is what HTTP reads; and no list is cut in silence."""

from typing import Final

import httpx2

from api.users.models import User
from cli.app import build
from cli.commands import COMMANDS
from tests.conftest import SUPERUSER
from tests.support.doors import HTTP_VERBS
from tests.support.processes import Apictl

# What a command that reads is asked about, and the same in a request's query.
READS: Final[dict[str, tuple[list[str], dict[str, str]]]] = {
    "show-user": ([SUPERUSER], {}),
    "list-users": ([], {}),
    "list-factors": ([SUPERUSER], {}),
    "list-service-accounts": ([], {}),
    "list-api-keys": ([], {}),
    "list-keys": ([], {}),
    "show-role": (["helper"], {}),
    "list-roles": ([], {}),
    "explain": (["--user", SUPERUSER, "--can", "users:read"], {"user": SUPERUSER, "can": "users:read"}),
    "list-tokens": ([], {}),
    "migration-status": ([], {}),
    "migration-history": ([], {}),
    "list-audit": ([], {}),
}


async def test_json_is_the_body_of_http(
    apictl: Apictl, environment: dict[str, str], superuser: User, admin: httpx2.AsyncClient
) -> None:
    """And where it goes on is said, once for a person and in the object."""
    # The doctor looks from where it is.
    assert {*READS, "doctor"} == {name for name, (method, *_) in HTTP_VERBS.items() if method == "GET"}
    for line in (
        ["create-user", "ada@example.com", "--no-password"],
        *(["create-role", name, "--scope", "users:read"] for name in ("helper", "other")),
        *(["create-service-account", name] for name in ("deploy", "backup")),
        *(["create-api-key", SUPERUSER, "--name", name] for name in ("one", "two")),
        ["create-token", SUPERUSER],
        ["rotate-keys"],
    ):
        assert (await apictl(*line, environment=environment)).code == 0, line
    for name, (line, query) in READS.items():
        path = HTTP_VERBS[name][1].format(*line)
        shown = await apictl(name, *line, "-o", "json", environment=environment)
        assert (shown.code, shown.err) == (0, ""), name
        assert shown.json() == (await admin.get(path, params=query)).json(), name
        if "cursor" not in {one.name for one in build(name).params}:
            continue
        cut = await apictl(name, *line, "--limit", "1", "-o", "json", environment=environment)
        assert cut.json() == (await admin.get(path, params=query | {"limit": "1"})).json(), name
        assert (len(cut.json()["items"]), "1 shown, and there are more: use --all" in cut.err) == (1, True), name
        every = await apictl(name, *line, "--limit", "1", "--all", "-o", "json", environment=environment)
        assert (every.json()["items"], every.err) == (shown.json()["items"], ""), name


def test_every_list_of_pages_has_the_same_options() -> None:
    paged = {name: {one.name for one in build(name).params} & {"limit", "cursor", "every"} for name in COMMANDS}
    assert {name for name, found in paged.items() if found} <= set(READS)
    assert all(len(found) in {0, 3} for found in paged.values())
