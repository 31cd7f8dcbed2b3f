"""Who is asking over HTTP, and the services about tokens."""

import base64
from typing import Annotated, Final
from urllib.parse import unquote_plus

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy.ext.asyncio import AsyncSession

from api.core.actor import SCOPE_TEXTS, Actor
from api.core.dependencies import SAFE, CurrentRuntime, CurrentSession, DryRun, RequestId
from api.core.errors import NotAuthenticated
from api.core.text import one_line
from api.factors.grant import FactorGrant
from api.idempotency.replies import begin_once
from api.signing_keys.ring import fresh
from api.throttle.service import Throttle
from api.tokens.authentication import Authentication, Bearer, Client
from api.tokens.grants import Grants
from api.tokens.keys import Keys
from api.tokens.refusals import InvalidClient, OAuthError
from api.tokens.schemas import ClientForm
from api.tokens.service import TokenService

# What makes the docs page's Authorize button work.
oauth2: Final = OAuth2PasswordBearer(
    tokenUrl="/v1/auth/token",
    refreshUrl="/v1/auth/token",
    auto_error=False,
    scheme_name="OAuth2",
    description="Log in with e-mail address and password; leave client_id and client_secret empty. "
    "Tick no scope to get everything that you may do, or some to get no more than those.",
    scopes={scope.value: text for scope, text in SCOPE_TEXTS.items()},
)


async def get_basic_client(request: Request) -> tuple[str, str] | None:
    """Return an OAuth client's id and secret from HTTP Basic (RFC 6749, section 2.3.1); None if there is none.

    Raises:
        InvalidClient: The header cannot be read.
    """
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise InvalidClient("The Authorization header is no HTTP Basic that can be read")
    return unquote_plus(name), unquote_plus(secret)


BasicClient = Annotated[tuple[str, str] | None, Depends(get_basic_client)]


async def get_keys(request: Request, runtime: CurrentRuntime) -> Keys:
    """Return the process's keys, with a ring that is never older than a second."""
    return await fresh(request.app.state.keys, runtime)


CurrentKeys = Annotated[Keys, Depends(get_keys)]


async def get_grants(runtime: CurrentRuntime, keys: CurrentKeys) -> Grants:
    """Return the OAuth grants."""
    return Grants(runtime, keys)


CurrentGrants = Annotated[Grants, Depends(get_grants)]


async def get_factor_grant(runtime: CurrentRuntime, keys: CurrentKeys) -> FactorGrant:
    """Return the grants of what somebody has."""
    return FactorGrant(runtime, keys)


CurrentFactorGrant = Annotated[FactorGrant, Depends(get_factor_grant)]


async def get_client(request: Request, request_id: RequestId) -> Client:
    """Return what is known of the program that asks, cut to what is worth keeping."""
    try:
        user_agent = one_line(request.headers.get("user-agent", ""))[:300]
    except ValueError:
        user_agent = ""
    address = request.client.host if request.client is not None else ""
    return Client(user_agent=user_agent, address=address, request_id=request_id)


CurrentClient = Annotated[Client, Depends(get_client)]


async def get_throttle(runtime: CurrentRuntime, client: CurrentClient) -> Throttle:
    """Return what holds guesses back that come from where this request does."""
    return Throttle(runtime, client.address)


CurrentThrottle = Annotated[Throttle, Depends(get_throttle)]


async def authenticated(
    form: ClientForm, basic: tuple[str, str] | None, grants: Grants, client: Client
) -> Bearer | None:
    """Return the OAuth client that shows its secret; None if none does, as a public one has none.

    Raises:
        InvalidClient: The id and the secret are not right (RFC 6749, section 3.2.1).
        OAuthError: There are two of them (section 2.3).
    """
    if basic is not None and form.client_secret:
        raise OAuthError("The client authenticates itself twice", hint="by HTTP Basic, or in the form")
    client_id, secret = basic or (form.client_id or "", form.client_secret or "")
    return await grants.by_client(client_id, secret, client=client) if secret else None


BearerToken = Annotated[str | None, Depends(oauth2)]


async def get_bearer(
    request: Request, token: BearerToken, runtime: CurrentRuntime, keys: CurrentKeys, client: CurrentClient
) -> Bearer:
    """Return who is asking, with their account.

    Raises:
        NotAuthenticated: There is no bearer token.
        InvalidToken: It is not good, or no longer.
    """
    if token is None:
        raise NotAuthenticated(
            hint="send: Authorization: Bearer <access token or API key>; log in at POST /v1/auth/token"
        )
    bearer = await Authentication(runtime, keys).bearer(token, client=client)
    # For the line of this request in the log.
    request.scope["state"]["user_id"] = bearer.actor.user_id
    return bearer


CurrentBearer = Annotated[Bearer, Depends(get_bearer)]


async def get_actor(request: Request, bearer: CurrentBearer) -> Actor:
    """Return who is asking."""
    # For the audit log, if they may not.
    request.state.actor = bearer.actor
    return bearer.actor


CurrentActor = Annotated[Actor, Depends(get_actor)]


async def get_session_once(
    request: Request, session: CurrentSession, actor: CurrentActor, dry_run: DryRun
) -> AsyncSession:
    """Return the request's transaction; what was done under its `Idempotency-Key` before is answered, not done again.

    Raises:
        Replayed: It was done before.
        RequestInProgress: It is being done.
        IdempotencyKeyReused: The key stands for another request.
    """
    # Not as a parameter, which the description of every GET would have.
    key = request.headers.get("idempotency-key")
    if key is not None and request.method not in SAFE and not dry_run:
        await begin_once(request, session, actor, key)
    return session


SessionOnce = Annotated[AsyncSession, Depends(get_session_once)]


async def get_token_service(session: SessionOnce, actor: CurrentActor, runtime: CurrentRuntime) -> TokenService:
    """Return the service of tokens for this request."""
    return TokenService(session, actor, runtime.settings)


CurrentTokens = Annotated[TokenService, Depends(get_token_service)]
