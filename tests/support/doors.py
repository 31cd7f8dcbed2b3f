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
            line += [flag] if value is True else [part for one in listed(value) for part in (flag, str(one))]
        if secret is not None:
            line.append("--password-stdin")
        if verb in {"delete-role", "delete-user", "reset-factors", "retire-key", "revoke-tokens"}:
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
        method, path, first = HTTP_VERBS[verb]
        headers = dict(self._headers)
        query: dict[str, Any] = {}
        body: dict[str, Any] = {}
        if "if_version" in options:
            headers["If-Match"] = f'"{options.pop("if_version")}"'
        options.pop("no_password", None)
        if first is not None and arguments:
            options[first] = arguments[0]
        for repeated in ("scope", "role", "network"):
            if repeated in options and method != "GET":
                options[f"{repeated}s"] = listed(options.pop(repeated))
        for option, value in options.items():
            name = NAMES.get(option, option)
            (query if method in {"GET", "DELETE"} or name in QUERIES else body)[name] = value
        if secret is not None:
            body["password"] = secret
        response = await self._client.request(
            method, path.format(*arguments), params=query, headers=headers, json=body or None
        )
        answer = response.json() if response.content else {}
        return Answer(answer, answer["code"] if response.status_code >= 400 else None)


def listed(value: Any) -> list[Any]:
    """Return the values of an option that can be repeated."""
    return value if isinstance(value, list) else [value]


# What has another name over HTTP, and what does not go into the body there.
NAMES: Final = {"superuser": "is_superuser"}
QUERIES: Final = {"if_exists", "is_superuser"}
# For each command: method, path, and what its first argument is called where it is no part of the path.
HTTP_VERBS: Final[dict[str, tuple[str, str, str | None]]] = {
    "create-user": ("POST", "/v1/users", "email"),
    "show-user": ("GET", "/v1/users/{}", None),
    "list-users": ("GET", "/v1/users", None),
    "update-user": ("PATCH", "/v1/users/{}", None),
    "set-password": ("PUT", "/v1/users/{}/password", None),
    "activate-user": ("POST", "/v1/users/{}/activate", None),
    "deactivate-user": ("POST", "/v1/users/{}/deactivate", None),
    "promote-user": ("POST", "/v1/users/{}/promote", None),
    "demote-user": ("POST", "/v1/users/{}/demote", None),
    "delete-user": ("DELETE", "/v1/users/{}", None),
    "invite-user": ("POST", "/v1/invitations", "email"),
    "send-reset": ("POST", "/v1/users/{}/send-reset", None),
    "verify-email": ("POST", "/v1/users/{}/verify-email", None),
    "list-factors": ("GET", "/v1/users/{}/factors", None),
    "reset-factors": ("DELETE", "/v1/users/{}/factors", None),
    "create-service-account": ("POST", "/v1/service-accounts", "name"),
    "list-service-accounts": ("GET", "/v1/service-accounts", None),
    "create-api-key": ("POST", "/v1/api-keys", "user"),
    "list-api-keys": ("GET", "/v1/api-keys", "user"),
    "rotate-api-key": ("POST", "/v1/api-keys/{}/rotate", None),
    "revoke-api-key": ("DELETE", "/v1/api-keys/{}", None),
    "list-keys": ("GET", "/v1/signing-keys", None),
    "rotate-keys": ("POST", "/v1/signing-keys", None),
    "retire-key": ("DELETE", "/v1/signing-keys/{}", None),
    "create-role": ("POST", "/v1/roles", "name"),
    "show-role": ("GET", "/v1/roles/{}", None),
    "list-roles": ("GET", "/v1/roles", None),
    "update-role": ("PATCH", "/v1/roles/{}", None),
    "delete-role": ("DELETE", "/v1/roles/{}", None),
    "grant-role": ("PUT", "/v1/users/{}/roles/{}", None),
    "revoke-role": ("DELETE", "/v1/users/{}/roles/{}", None),
    "explain": ("GET", "/v1/explain", None),
    "create-token": ("POST", "/v1/tokens", "user"),
    "list-tokens": ("GET", "/v1/tokens", "user"),
    "revoke-tokens": ("DELETE", "/v1/tokens", "user"),
    "revoke-token": ("DELETE", "/v1/tokens/{}", None),
    "migration-status": ("GET", "/v1/migrations", None),
    "migration-history": ("GET", "/v1/migrations/history", None),
    "doctor": ("GET", "/v1/doctor", None),
    "migrate": ("POST", "/v1/migrations/upgrade", None),
    "list-audit": ("GET", "/v1/audit", None),
}
