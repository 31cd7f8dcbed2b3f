"""Clients that others have written, unchanged, with the server as it is served."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import jwt
import pytest
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import BackendApplicationClient, LegacyApplicationClient
from requests_oauthlib import OAuth2Session as OAuthlibSession

from api.signing_keys.jwk import ALGORITHMS
from api.users.models import User
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.processes import Apictl, run
from tests.support.server import serving

ISSUER: Final = "https://accounts.example.com"
SCRIPT: Final = Path(__file__).parent.parent / "js" / "verify.mjs"
node = pytest.mark.skipif(
    shutil.which("node") is None or not (SCRIPT.parent / "node_modules").exists(),
    reason="no Node.js, or its library is not installed: npm ci --prefix tests/js",
)


@pytest.fixture
def address(
    apictl: Apictl, environment: dict[str, str], superuser: User, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of the server, whose public URL is another, as behind a proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # Both insist on TLS otherwise.
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    with serving("serve", environment=environment | {"APICTL_ISSUER": ISSUER}, start=apictl.start) as server:
        yield server.url


@pytest.fixture
async def secret(apictl: Apictl, environment: dict[str, str], superuser: User) -> str:
    """The secret of the client `deploy`, which may read users and ask about tokens."""
    scopes = ("--scope", "users:read", "--scope", "tokens:introspect")
    await apictl("create-role", "deployer", *scopes, environment=environment)
    await apictl("create-service-account", "deploy", "--role", "deployer", environment=environment)
    line = ("create-api-key", "deploy", "--name", "x", *scopes, "-o", "json")
    key: str = (await apictl(*line, environment=environment)).json()["key"]
    return key


def test_authlib_for_a_person(address: str) -> None:
    token_url = f"{address}/v1/auth/token"
    with AuthlibSession("apictl", token_endpoint_auth_method="none") as session:
        session.fetch_token(token_url, username=SUPERUSER, password=PASSWORD)
        assert session.get(f"{address}/v1/users/me").json()["email"] == SUPERUSER
        first = session.token["refresh_token"]
        session.refresh_token(token_url)
        assert session.token["refresh_token"] != first
        assert session.get(f"{address}/v1/users/me").status_code == 200
        assert session.revoke_token(f"{address}/v1/auth/revoke", session.token["refresh_token"]).status_code == 200
        assert session.get(f"{address}/v1/users/me").status_code == 401


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_for_a_machine(address: str, secret: str, method: str) -> None:
    with AuthlibSession("deploy", secret, token_endpoint_auth_method=method, scope="users:read") as session:
        token = session.fetch_token(f"{address}/v1/auth/token", grant_type="client_credentials")
        assert token["scope"] == "users:read"
        assert session.get(f"{address}/v1/users").json()["items"][0]["email"] == SUPERUSER
        answer = session.introspect_token(f"{address}/v1/auth/introspect", token["access_token"])
        assert (answer.json()["active"], answer.json()["username"]) == (True, "deploy")


def test_requests_oauthlib_for_a_person(address: str) -> None:
    client = LegacyApplicationClient(client_id="apictl")
    saved: list[Any] = []
    options = {"auto_refresh_url": f"{address}/v1/auth/token", "token_updater": saved.append}
    with OAuthlibSession(client=client, auto_refresh_kwargs={"client_id": "apictl"}, **options) as session:
        token = session.fetch_token(f"{address}/v1/auth/token", username=SUPERUSER, password=PASSWORD)
        assert session.get(f"{address}/v1/users/me").json()["email"] == SUPERUSER
        # It refreshes by itself what has run out.
        session.token = token | {"expires_in": -1, "expires_at": 1}
        assert session.get(f"{address}/v1/users/me").status_code == 200
        assert saved[0]["access_token"] != token["access_token"]


def test_requests_oauthlib_for_a_machine(address: str, secret: str) -> None:
    with OAuthlibSession(client=BackendApplicationClient(client_id="deploy", scope=["users:read"])) as session:
        session.fetch_token(f"{address}/v1/auth/token", client_id="deploy", client_secret=secret)
        assert session.get(f"{address}/v1/users").status_code == 200


async def tokens_of_every_algorithm(apictl: Apictl, environment: dict[str, str]) -> dict[str, str]:
    """Return a token that each of the published algorithms signed."""
    tokens: dict[str, str] = {}
    for algorithm in ALGORITHMS:
        if algorithm != "HS256":
            await apictl("rotate-keys", "--wait", "0", "--algorithm", algorithm, environment=environment)
            line = ("create-token", SUPERUSER, "-o", "json")
            issued = await apictl(*line, environment=environment | {"APICTL_ISSUER": ISSUER})
            tokens[algorithm] = issued.json()["access_token"]
    return tokens


async def test_pyjwkclient(apictl: Apictl, environment: dict[str, str], address: str) -> None:
    keys = jwt.PyJWKClient(f"{address}/.well-known/jwks.json")
    for algorithm, token in (await tokens_of_every_algorithm(apictl, environment)).items():
        key = keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key, algorithms=[algorithm], audience=ISSUER, issuer=ISSUER)
        assert claims["client_id"] == "apictl"


@node
async def test_javascript(apictl: Apictl, environment: dict[str, str], address: str, superuser: User) -> None:
    tokens = await tokens_of_every_algorithm(apictl, environment)
    line = (str(SCRIPT), f"{address}/.well-known/jwks.json", ISSUER)
    bare = {"PATH": os.environ["PATH"]}
    text = "".join(f"{token}\n" for token in tokens.values())
    done = await run(*line, program="node", environment=bare, stdin=text)
    assert done.code == 0, done.err
    verified = [json.loads(said) for said in done.out.splitlines()]
    assert verified == [{"sub": str(superuser.id), "alg": algorithm} for algorithm in tokens]
    # It would notice.
    forged = tokens["EdDSA"][:-20] + "A" * 20
    assert "signature verification failed" in (await run(*line, program="node", environment=bare, stdin=forged)).err


async def test_metadata_is_of_the_public_url(address: str) -> None:
    async with httpx2.AsyncClient(base_url=address, trust_env=False) as client:
        found = (await client.get("/.well-known/oauth-authorization-server")).json()
    assert found["issuer"] == ISSUER
    assert found["jwks_uri"] == f"{ISSUER}/.well-known/jwks.json"
