"""No secret is on a command line, in any output, or in any log: looked for wherever one can be given."""

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import httpx2

from api.users.models import User
from cli.app import build
from cli.commands import COMMANDS
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.processes import Apictl
from tests.support.server import serving
from tests.support.terminal import terminal

CANARY: Final = "c4nary four unrelated words"
# Those whose value is none, by what it is.
NO_SECRETS: Final = {
    "password_file": "the name of a file",
    "key_file": "the name of a file",
    "keys_to": "the name of a file",
    "key_owner": "who owns a key",
    "key_name": "what a key is for",
    "key_scopes": "what a key may do",
    "key_expires_in": "seconds",
    "token": "a session's id",
    "key": "an API key's or a signing key's id",
    # Without the database, whose rows it opens, it is good for nothing.
    "idempotency_key": "a UUID",
    "keep": "a session's id",
}
LOUD: Final = ("-vv", "--debug")


def secrets_of(environment: dict[str, str]) -> list[str]:
    """Return what must not be seen: the canary, the secret key, the database's password."""
    password = urlsplit(environment["APICTL_DATABASE_URL"]).password
    return ["c4nary", environment["APICTL_SECRET_KEY"], *([password] if password else [])]


def test_no_option_and_no_argument_takes_a_secret() -> None:
    suspicious = re.compile(r"password|passphrase|secret|token|key|otp|code|credential")
    for name in COMMANDS:
        takes = {one.name for one in build(name).params if not (getattr(one, "is_flag", False))}
        assert {one for one in takes if suspicious.search(one)} <= set(NO_SECRETS), name


SHOWN_ONCE: Final = (
    ("create-user", "ada@example.com", "--generate-password"),
    ("set-password", SUPERUSER, "--generate-password"),
    ("create-token", SUPERUSER),
    ("create-api-key", SUPERUSER, "--name", "x"),
    ("rotate-api-key", "{key}"),
    ("bootstrap", SUPERUSER, "--generate-password"),
    ("apply", "-f", "-", "--show-keys"),
)


async def test_what_is_shown_once_is_shown(
    apictl: Apictl, environment: dict[str, str], database: asyncpg.Connection
) -> None:
    state = "{owner: x, service_accounts: [{name: ci, api_keys: [{name: k}]}]}"
    assert (await apictl("create-user", SUPERUSER, "--no-password", environment=environment)).code == 0
    key = (await apictl("create-api-key", SUPERUSER, "--name", "x", "-o", "json", environment=environment)).json()["id"]
    tables = ("users", "sessions", "api_keys", "audit_entries")
    before = [await database.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in tables]  # noqa: S608 - ours
    for line in SHOWN_ONCE:
        filled = [key if one == "{key}" else one for one in line]
        for how in (["-o", "ids"], ["--fields", "changed"]):
            own = environment if line[0] != "bootstrap" else environment | {"APICTL_SECRET_KEY": "x" * 64}
            refused = await apictl(*filled, *how, environment=own, stdin=state)
            assert (refused.code, "is shown this once, and would not be" in refused.err) == (2, True), (line, refused)
    assert [await database.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in tables] == before  # noqa: S608 - ours


async def test_no_secret_is_in_any_output(
    apictl: Apictl, environment: dict[str, str], superuser: User, tmp_path: Path
) -> None:
    """Through every source, with `-vv` and `--debug`: of what succeeds, is refused, and cannot connect."""
    file = tmp_path / "secret"
    file.write_text(CANARY)
    file.chmod(0o600)
    weak = tmp_path / "weak"
    weak.write_text("c4nary")
    weak.chmod(0o600)
    issued = (await apictl("create-token", SUPERUSER, "-o", "json", environment=environment)).json()
    elsewhere = environment | {"APICTL_DATABASE_URL": "postgresql://ada:c4nary@127.0.0.1:1/x"}
    unusable = environment | {"APICTL_DATABASE_URL": "postgresql://ada:c4nary@[/x"}
    seen = []
    for line, own, stdin, code in (
        (["create-user", "ada@example.com", "--password-stdin", "--if-exists", "skip"], environment, CANARY, 0),
        (["set-password", "ada@example.com", "--password-file", str(file)], environment, None, 0),
        (["set-password", "ada@example.com"], environment | {"APICTL_PASSWORD": CANARY}, None, 0),
        (["set-password", "ada@example.com", "--password-file", str(weak)], environment, None, 1),
        (["create-user", "ada@example.com", "--password-stdin"], environment, CANARY, 1),
        (["introspect-token"], environment, issued["refresh_token"], 0),
        (["introspect-token"], environment, "apictl_c4nary", 0),
        (["show-config", "--origin", "-o", "json"], environment, None, 0),
        (["show-config"], elsewhere, None, 0),
        (["list-users"], elsewhere, None, 1),
        (["list-users"], unusable, None, 1),
        (["serve"], environment | {"APICTL_SECRET_KEY": "c4nary"}, None, 1),
    ):
        # With --debug a failure is a traceback; without, it has an exit code of its own.
        for loud in (LOUD, ()):
            ended = await apictl(*line, *loud, environment=own, stdin=stdin)
            assert bool(ended.code) is bool(code), (line, ended)
            seen.append(ended.out + ended.err)
    assert any("Traceback" in text for text in seen)
    assert any("SELECT" in text for text in seen)
    for secret in (*secrets_of(environment), *(issued[name] for name in ("access_token", "refresh_token"))):
        assert not [text for text in seen if secret in text], secret


def test_what_is_typed_is_not_shown(apictl: Apictl, environment: dict[str, str], superuser: User) -> None:
    for line, prompts in (
        (("set-password", SUPERUSER), ["or more\\): ", "again: "]),
        (("introspect-token",), ["Token: "]),
    ):
        with terminal(*line, *LOUD, environment=environment, start=apictl.start) as seen:
            for prompt in prompts:
                seen.wait_for(prompt)
                seen.type(CANARY + "\n")
            assert seen.end() == 0, seen.screen
        assert not [secret for secret in secrets_of(environment) if secret in seen.screen], seen.screen


def test_no_secret_is_in_the_server_s_log(apictl: Apictl, environment: dict[str, str], superuser: User) -> None:
    own = environment | {"APICTL_LOG_LEVEL": "debug"}
    with serving("serve", *LOUD, environment=own, start=apictl.start) as server:
        for password, status in ((PASSWORD, 200), (CANARY, 400)):
            assert ask(server.url, "/v1/auth/token", password=password) == status
        for path, status in (("/v1/users/me", 401), ("/no-such-path", 404)):
            assert ask(server.url, path, token="apictl_key_c4nary") == status
        _, log = server.end()
    assert "SELECT" in log
    assert not [secret for secret in (*secrets_of(environment), PASSWORD) if secret in log]


def ask(url: str, path: str, *, password: str | None = None, token: str = "") -> int:
    """Log in, or ask with a token; return the status."""
    form = {"grant_type": "password", "username": SUPERUSER, "password": password}
    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=url, trust_env=False, timeout=60) as client:
        answer = client.post(path, data=form) if password else client.get(path, headers=headers)
    return answer.status_code
