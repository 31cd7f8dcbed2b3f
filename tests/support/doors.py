"""The two doors, behind one interface: what a scenario does through one, it does through the other."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, Protocol

import httpx2

APICTL: Final = Path(sys.executable).parent / "apictl"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a door said: the object, or the problem."""

    body: dict[str, Any]
    code: str | None

    @property
    def ok(self) -> bool:
        return self.code is None


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


async def run(
    *arguments: str,
    environment: Mapping[str, str],
    stdin: str | bytes | None = None,
    cwd: Path | None = None,
    program: Path | str = APICTL,
) -> Finished:
    """Run the installed command from nothing, with pipes, as a script does."""
    process = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        env=dict(environment),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode() if isinstance(stdin, str) else stdin)
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


class Apictl:
    """Runs command lines as children of a process that has everything imported (see `warm`)."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def __call__(
        self, *arguments: str, environment: Mapping[str, str], stdin: str | bytes | None = None
    ) -> Finished:
        sent = stdin.encode() if isinstance(stdin, str) else stdin or b""
        return await asyncio.to_thread(self._run, arguments, environment, sent)

    def _run(self, arguments: tuple[str, ...], environment: Mapping[str, str], sent: bytes) -> Finished:
        with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
            given.write(sent)
            given.seek(0)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(self._address)
                request = {
                    "arguments": arguments,
                    "environment": {**environment, **measured()},
                    "folder": str(Path.cwd()),
                }
                descriptors = [given.fileno(), out.fileno(), err.fileno()]
                socket.send_fds(connection, [json.dumps(request).encode()], descriptors)
                answer = connection.makefile().read().split()
            out.seek(0)
            err.seek(0)
            return Finished(int(answer[1]), out.read().decode(), err.read().decode())


def bare_environment(**more: str) -> dict[str, str]:
    """Return an environment with nothing of ours but what is given; coverage is not measured in it."""
    ours = ("APICTL_", "COVERAGE_", "DATABASE_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # Where an embedded server of root's keeps what its account could not reach.
    kept |= {name: os.environ[name] for name in ("APICTL_STATE_DIR",) if name in os.environ}
    return {"TERM": "xterm-256color"} | kept | more


def measured() -> dict[str, str]:
    """Return what makes a process measure its coverage, if this run measures any.

    It doubles what a command costs, so only those have it whose lines no other test reaches.
    """
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}


class Door(Protocol):
    """What a scenario may do."""

    name: str

    async def do(self, verb: str, *arguments: str, secret: str | None = None, **options: Any) -> Answer:
        """Carry out one of the verbs that both doors have."""
        ...


class CliDoor:
    """The installed command in a process of its own."""

    name = "cli"

    def __init__(self, apictl: Apictl, environment: Mapping[str, str]) -> None:
        self._apictl = apictl
        self._environment = environment

    async def do(self, verb: str, *arguments: str, secret: str | None = None, **options: Any) -> Answer:
        line = [verb, *arguments, "-o", "json"]
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            line += [flag] if value is True else [flag, str(value)]
        if secret is not None:
            line.append("--password-stdin")
        if verb == "delete-user":
            line.append("--yes")
        ended = await self._apictl(*line, environment=self._environment, stdin=secret)
        if ended.code == 0:
            body = json.loads(ended.out)
            for extra in ("changed", "generated_password"):
                body.pop(extra, None)
            return Answer(body, None)
        problem = json.loads(ended.err.splitlines()[-1])
        return Answer(problem, problem["code"])


class HttpDoor:
    """The application, asked by a superuser."""

    name = "http"

    def __init__(self, client: httpx2.AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def do(self, verb: str, *arguments: str, secret: str | None = None, **options: Any) -> Answer:
        method, path, sends_query = HTTP_VERBS[verb]
        query: dict[str, Any] = {}
        body: dict[str, Any] = {}
        headers = dict(self._headers)
        options.pop("no_password", None)
        if "if_version" in options:
            headers["If-Match"] = f'"{options.pop("if_version")}"'
        if options.pop("superuser", False):
            query["is_superuser"] = "true"
        if "if_exists" in options:
            query["if_exists"] = options.pop("if_exists")
        if sends_query:
            query |= {QUERY_NAMES.get(name, name): value for name, value in options.items()}
        else:
            body |= options
        if secret is not None:
            body["password"] = secret
        if verb in {"create-user", "create-token"}:
            body["email" if verb == "create-user" else "user"] = arguments[0]
        elif verb == "list-tokens" and arguments:
            query["user"] = arguments[0]
        if "scope" in options:
            body["scopes"] = [body.pop("scope")]
        sent = body if method in {"POST", "PUT", "PATCH"} and not path.endswith(NO_BODY) else None
        response = await self._client.request(method, path.format(*arguments), params=query, headers=headers, json=sent)
        answer = response.json() if response.content else {}
        return Answer(answer, answer["code"] if response.status_code >= 400 else None)


NO_BODY: Final = ("/activate", "/deactivate", "/promote", "/demote", "/upgrade")
QUERY_NAMES: Final = {"search": "q"}
HTTP_VERBS: Final[dict[str, tuple[str, str, bool]]] = {
    "create-user": ("POST", "/v1/users", False),
    "show-user": ("GET", "/v1/users/{}", True),
    "list-users": ("GET", "/v1/users", True),
    "update-user": ("PATCH", "/v1/users/{}", False),
    "set-password": ("PUT", "/v1/users/{}/password", False),
    "activate-user": ("POST", "/v1/users/{}/activate", False),
    "deactivate-user": ("POST", "/v1/users/{}/deactivate", False),
    "promote-user": ("POST", "/v1/users/{}/promote", False),
    "demote-user": ("POST", "/v1/users/{}/demote", False),
    "delete-user": ("DELETE", "/v1/users/{}", True),
    "create-token": ("POST", "/v1/tokens", False),
    "list-tokens": ("GET", "/v1/tokens", True),
    "revoke-token": ("DELETE", "/v1/tokens/{}", True),
    "migration-status": ("GET", "/v1/migrations", True),
    "migrate": ("POST", "/v1/migrations/upgrade", False),
}
