"""The two doors, behind one interface: what a scenario does through one, it does through the other."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx2

from tests.support.processes import Apictl


@dataclass(frozen=True, slots=True)
class Answer:
    """What a door said: the object, or the problem."""

    body: dict[str, Any]
    code: str | None

    @property
    def ok(self) -> bool:
        return self.code is None


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
