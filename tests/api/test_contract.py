"""The OpenAPI document and the server keep each other's word, whatever is sent.

Schemathesis makes the requests: valid ones, and ones that break the document in one place. Everybody whom they can
harm is made again afterwards, so that no operation need be left out.
"""

import secrets
from collections.abc import Iterator, MutableMapping
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import httpx2
import pytest
import schemathesis
from hypothesis import strategies as st

from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.cases import REQUESTS, THOROUGH, cases, count
from tests.support.processes import Apictl
from tests.support.server import serving

# Requests by the thousand, of which every line that they reach has tests of its own: only time is lost by measuring.

Case: TypeAlias = schemathesis.Case[Any]

# A device need not say anything, and what it says that is unknown is ignored (RFC 6749, section 3.2). A file is any
# text: what is wrong with it is said row by row.
FORGIVING: Final = [
    {"include-path": "/v1/auth/device", "checks": {"negative_data_rejection": {"enabled": False}}},
    {"include-path": "/v1/auth/passkey", "checks": {"negative_data_rejection": {"enabled": False}}},
    {"include-path": "/v1/bulk/users", "checks": {"negative_data_rejection": {"enabled": False}}},
]
CONFIG: Final = {
    # The same every day, and another one for whoever looks for what nobody has found.
    "seed": secrets.randbelow(2**32) if REQUESTS else 1,
    # Every way to break every field, one by one, takes most of the time: that is for CI.
    "phases": {"coverage": {"enabled": THOROUGH}},
    "request-timeout": 60,
    "operations": FORGIVING,
    "checks": {
        # No schema says what a good password is, or which cursor was given out: what is valid may yet be refused.
        "positive_data_acceptance": {"enabled": False},
        # Ours says 413 too: a form may have fields of 8 KiB, but not many of them.
        "negative_data_rejection": {"expected-statuses": ["4xx"]},
    },
}
PASSWORDS: Final = [PASSWORD, "turnip lantern quarrel 88"]
SPARE: Final = "ada@example.com"
SPARE_SUPERUSER: Final = "grace@example.com"
SPARE_ROLE: Final = "spare"
# What is accepted only from somebody who has a second factor, and its one-time password of now.
NEEDS_A_PHONE: Final = {
    "POST /v1/users/me/factors/{factor_id}/confirm",
    "POST /v1/users/me/factors/{factor_id}/remove",
    "POST /v1/users/me/recovery-codes",
}
# And only with the link that is in a mail.
NEEDS_A_MAIL: Final = {
    "POST /v1/auth/complete-registration",
    "POST /v1/auth/confirm-email",
    "POST /v1/auth/reset-password",
}


class World:
    """What the requests are about: a superuser who asks, and others to be hurt."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        form = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}
        token = client.post("/v1/auth/token", data=form).raise_for_status().json()["access_token"]
        self.asking = {"Authorization": f"Bearer {token}"}
        self.restore()
        self.answered: set[str] = set()
        self.asked = 0
        self.known: dict[str, dict[str, list[Any]]] = {
            "path_parameters": {
                "user": [SPARE, SPARE_SUPERUSER],
                "role": [SPARE_ROLE],
                "api_key_id": [
                    self._ask("POST", "/v1/api-keys", {"user": SUPERUSER, "name": "x"})["id"] for _ in range(3)
                ],
                "user_code": [self._device() for _ in range(8)],
                "key_id": [self._ask("POST", "/v1/signing-keys", {"wait": 86400})["id"]],
                "token_id": [self.new_session(SPARE)["session_id"]],
            },
            "query": {"user": [SPARE], "can": ["users:read"]},
            "headers": {"if-match": ['"1"', "*"]},
            "body": {
                "user": [SPARE],
                "token": [self.new_session(SPARE)["refresh_token"]],
                "name": ["something-new"],
                "roles": [[]],
                "email": [SPARE, "somebody-new@example.com"],
                "username": [SUPERUSER],
                **dict.fromkeys(("password", "current_password", "new_password"), PASSWORDS),
                "grant_type": ["password", "refresh_token"],
                "scope": ["users:read"],
                "scopes": [["users:read"]],
            },
        }

    def restore(self) -> None:
        """Bring back whoever was deleted, demoted or deactivated, and take away what was granted."""
        for email in (SPARE, SPARE_SUPERUSER):
            self._ask("POST", "/v1/users?if_exists=skip", {"email": email})
            self._ask("POST", f"/v1/users/{email}/activate")
        self._ask("POST", f"/v1/users/{SPARE_SUPERUSER}/promote")
        if self._client.get(f"/v1/roles/{SPARE_ROLE}", headers=self.asking).status_code == 404:
            self._ask("POST", "/v1/roles", {"name": SPARE_ROLE, "scopes": []})
        for email in (SPARE, SPARE_SUPERUSER):
            self._ask("DELETE", f"/v1/users/{email}/roles/{SPARE_ROLE}")

    def _device(self) -> str:
        """Return the code of a device that waits."""
        answer = self._client.post("/v1/auth/device").raise_for_status()
        code: str = answer.json()["user_code"]
        return code

    def new_session(self, email: str) -> Any:
        """Return the tokens of a new session."""
        return self._ask("POST", "/v1/tokens", {"user": email})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._client.request(method, path, json=body, headers=self.asking)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json()


@pytest.fixture
def address(
    apictl: Apictl, environment: dict[str, str], superuser: User, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of the real server."""
    # Schemathesis asks through the machine's proxy, if it has one.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving("serve", environment=environment, start=apictl.start) as server:
        assert server.get("/health/ready")[0] == 200
        yield server.url


@pytest.fixture
def world(address: str) -> Iterator[World]:
    """The world behind that server."""
    # The server ends a connection that was idle for 5 s, perhaps just as we ask again.
    alone = httpx2.Limits(max_keepalive_connections=0)
    with httpx2.Client(base_url=address, timeout=60, limits=alone, trust_env=False) as client:
        yield World(client)


def described(address: str, request: pytest.FixtureRequest, *, examples: int) -> Any:
    """Return the server's own document, and how many requests to invent for each operation."""
    # Schemathesis 4.32 renames its test while it runs, by an attribute that pytest 9.2 no longer has.
    request.node._nodeid = request.node.nodeid
    generation = {"max-examples": REQUESTS or examples, "deterministic": not REQUESTS, "database": "none"}
    config = schemathesis.Config.from_dict(CONFIG | {"generation": generation})
    return schemathesis.openapi.from_url(f"{address}/openapi.json", config=config)


def about_somebody(case: Case, world: World) -> st.SearchStrategy[Case]:
    """Draw, for some of what a valid request names, what is known here: invented ids only ever find nobody."""
    parts = {
        "path_parameters": case.path_parameters,
        "query": case.query,
        "headers": case.headers,
        "body": case.body,
    }
    places = [
        (values, name, world.known[part][name])
        for part, values in parts.items()
        if isinstance(values, MutableMapping)
        for name in values
        if name in world.known[part]
    ]

    def put(chosen: tuple[Any, ...]) -> Case:
        for (values, name, _), value in zip(places, chosen, strict=True):
            if value is not None:
                values[name] = value
        return case

    known = [st.sampled_from(values) for _, _, values in places]
    # Half of them all at once: a request with one invented id in it finds nobody, too.
    return (st.tuples(*known) | st.tuples(*(st.none() | value for value in known))).map(put)


@pytest.fixture
def by_superuser(address: str, world: World, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The document, with requests that now and then are about somebody who exists."""
    schema = described(address, request, examples=max(6, cases(40)))

    def flatmap_case(context: Any, case: Case) -> st.SearchStrategy[Case]:
        return about_somebody(case, world) if case.meta and case.meta.generation.mode.is_positive else st.just(case)

    def before_add_examples(context: Any, examples: list[Case]) -> None:
        # Every field of a form is optional: all of the right ones at once would be rare.
        if context.operation.path == "/v1/auth/token":
            body = {"grant_type": "password", "username": SUPERUSER, "password": PASSWORD}
            examples.append(context.operation.Case(body=body, media_type="application/x-www-form-urlencoded"))
        if context.operation.path == "/v1/auth/passkey":
            examples.append(context.operation.Case(body={}, media_type="application/x-www-form-urlencoded"))
        if context.operation.label == "POST /v1/audit/verification":
            # Invented heads are never those of the log.
            examples.append(context.operation.Case(body={}, media_type="application/json"))
        if context.operation.label == "POST /v1/invitations":
            body = {"email": "guest@example.com"}
            examples.append(context.operation.Case(body=body, media_type="application/json"))
        if context.operation.label == "POST /v1/bulk/users":
            examples.append(context.operation.Case(body="email\n", media_type="text/csv"))

    schema.hook(flatmap_case)
    schema.hook(before_add_examples)
    yield schema
    count(world.asked)
    labels = {found.ok().label for found in schema.get_all_operations()}
    # By chance, where it is left to chance.
    assert REQUESTS or labels - world.answered == NEEDS_A_PHONE | NEEDS_A_MAIL, (
        "nothing was accepted here: World.known lacks what a good request needs"
    )


@pytest.fixture
def by_nobody(address: str, request: pytest.FixtureRequest) -> Any:
    """The document, for those without a good token."""
    return described(address, request, examples=cases(10))


@schemathesis.pytest.from_fixture("by_superuser").parametrize()
def test_superuser(case: Case, world: World) -> None:
    headers = world.asking
    if case.operation.definition.raw["operationId"] == "end_own_session":
        headers = {"Authorization": f"Bearer {world.new_session(SUPERUSER)['access_token']}"}
    if case.operation.label == "DELETE /v1/tokens":
        # Whoever names nobody ends their own.
        headers = {"Authorization": f"Bearer {world.new_session(SPARE_SUPERUSER)['access_token']}"}
    world.asked += 1
    response = case.call_and_validate(headers=headers)
    # Or it would have been, were there not so many of them.
    if response.status_code < 300 or response.status_code == 429:
        world.answered.add(case.operation.label)
    if response.status_code < 300 and case.method != "GET" and {"role", "user"} & set(case.path_parameters):
        world.restore()


# What may be said of a body before anybody is asked who they are.
READ_BEFORE: Final[dict[str, set[int]]] = {
    # Who asks may stand in the form.
    "POST /v1/auth/introspect": {413, 422},
    # The examples are as long as they may be.
    "POST /v1/plan": {413},
    "POST /v1/apply": {413},
    "POST /v1/audit/verification": {413},
}


# That every route lets nobody in is in tests/project/test_default_deny.py, too.
@pytest.mark.skipif(not THOROUGH, reason="a thousand requests that get nowhere: CI's second run has them")
@schemathesis.pytest.from_fixture("by_nobody").parametrize()
def test_nobody(case: Case) -> None:
    response = case.call_and_validate()
    if case.operation.definition.raw.get("security"):
        # Nobody asks who sends a path that leads nowhere: it is not even read by a route.
        named = unquote("".join(map(str, case.path_parameters.values())))
        is_odd = not named.isprintable() or "/" in named
        allowed = {400, 401, 405} | READ_BEFORE.get(case.operation.label, set()) | ({404, 422} if is_odd else set())
        assert response.status_code in allowed
