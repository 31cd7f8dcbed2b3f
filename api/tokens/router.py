"""The HTTP door to logging in, and to sessions."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Form, Path, Query, Request, Response

from api.core.answers import tell_changed
from api.core.dependencies import NO_DRY_RUN, DryRun
from api.core.problems import responses
from api.devices.dependencies import CurrentDeviceGrant
from api.factors.check import Proof
from api.factors.grant import FactorGrant
from api.factors.schemas import PasskeyOptions
from api.tokens.authentication import Client
from api.tokens.dependencies import (
    BasicClient,
    CurrentActor,
    CurrentClient,
    CurrentFactorGrant,
    CurrentGrants,
    CurrentKeys,
    CurrentTokens,
    authenticated,
)
from api.tokens.refusals import (
    DEVICE_CODE,
    GRANT_TYPES,
    MFA,
    PASSKEY,
    InvalidClient,
    OAuthError,
    UnsupportedGrantType,
)
from api.tokens.route import OAuthRoute
from api.tokens.schemas import (
    LoginForm,
    PasskeyForm,
    TokenCreate,
    TokenIssued,
    TokenPage,
    TokenQuery,
    TokenRead,
    TokenRefused,
    TokensRevoke,
    TokensRevoked,
)

router = APIRouter(tags=["tokens"])
oauth = APIRouter(tags=["tokens"], route_class=OAuthRoute, dependencies=NO_DRY_RUN)
# How RFC 6749, section 5.2, refuses.
REFUSED: Final[dict[int | str, dict[str, Any]]] = {400: {"model": TokenRefused, "description": "Refused"}}


@oauth.post(
    "/v1/auth/token",
    response_model_exclude_none=True,
    responses=responses(413, 429, 503) | REFUSED | {401: REFUSED[400]},
    openapi_extra={"security": []},
)
async def token_endpoint(
    request: Request,
    grants: CurrentGrants,
    client: CurrentClient,
    form: Annotated[LoginForm, Form()],
    basic: BasicClient,
    factor: CurrentFactorGrant,
    device: CurrentDeviceGrant,
) -> TokenIssued:
    """Exchange what somebody knows or has, a refresh token, or a client's secret for tokens (RFC 6749, RFC 8628)."""
    # For whoever counts them.
    request.scope["state"]["grant"] = form.grant_type if form.grant_type in GRANT_TYPES else "other"
    account = await authenticated(form, basic, grants, client)
    if form.grant_type == "password":
        if form.username is None or form.password is None:
            raise OAuthError("The password grant needs username and password")
        return await grants.by_password(form.username, form.password, otp=form.otp, scope=form.scope, client=client)
    if form.grant_type in {MFA, PASSKEY}:
        return await by_factor(form, factor, client)
    if form.grant_type == "refresh_token":
        if form.refresh_token is None:
            raise OAuthError("The refresh grant needs refresh_token")
        return await grants.by_refresh_token(form.refresh_token, scope=form.scope, client=client)
    if form.grant_type == "client_credentials":
        if account is None:
            raise InvalidClient("The client credentials grant needs client_id and client_secret")
        return grants.by_client_credentials(account, scope=form.scope)
    if form.grant_type == DEVICE_CODE:
        if form.device_code is None:
            raise OAuthError("The device grant needs device_code")
        return await device.by_device_code(form.device_code, client=client)
    known = ", ".join(GRANT_TYPES)
    if form.grant_type is None:
        raise OAuthError("grant_type is missing", hint=f"send a form with grant_type, one of {known}")
    raise UnsupportedGrantType(hint=f"grant_type is one of {known}")


async def by_factor(form: LoginForm, grant: FactorGrant, client: Client) -> TokenIssued:
    """Exchange what somebody has for tokens: after a right password, or a passkey alone."""
    if form.grant_type == MFA:
        if form.mfa_token is None or [form.otp, form.recovery_code, form.credential].count(None) != 2:
            raise OAuthError("This grant needs mfa_token, and one of otp, recovery_code and credential")
        proof = Proof(otp=form.otp, recovery_code=form.recovery_code, credential=form.credential)
        return await grant.by_second_factor(form.mfa_token, proof, client=client)
    if form.credential is None:
        raise OAuthError("The passkey grant needs credential", hint="ask for a challenge at POST /v1/auth/passkey")
    return await grant.by_passkey(form.credential, scope=form.scope, client=client)


@oauth.post("/v1/auth/passkey", responses=responses(413, 503) | REFUSED, openapi_extra={"security": []})
async def passkey_options(form: Annotated[PasskeyForm, Form()], grant: CurrentFactorGrant) -> PasskeyOptions:
    """Begin a login with a passkey: options for `navigator.credentials.get()`, with a challenge for five minutes."""
    return await grant.passkey_options(form.mfa_token)


@router.post("/v1/auth/logout", status_code=204, responses=responses(400, 401, 503), dependencies=NO_DRY_RUN)
async def end_own_session(actor: CurrentActor, tokens: CurrentTokens) -> None:
    """End the session that asks: its access and refresh tokens stop working at once."""
    if actor.session_id is not None:
        await tokens.revoke_token(actor.session_id)


@router.post(
    "/v1/tokens",
    status_code=201,
    response_model_exclude_none=True,
    responses=responses(400, 401, 403, 404, 409, 413, 422, 503),
)
async def create_token(
    new: TokenCreate, tokens: CurrentTokens, keys: CurrentKeys, response: Response, dry_run: DryRun
) -> TokenIssued:
    """Issue tokens for a user without their password."""
    tell_changed(response, changed=True)
    return await tokens.create_token(new, keys, dry_run=dry_run)


@router.get("/v1/tokens", responses=responses(400, 401, 403, 404, 422, 503))
async def list_tokens(query: Annotated[TokenQuery, Query()], tokens: CurrentTokens) -> TokenPage:
    """List sessions, the newest first: everybody's with `tokens:read`, else one's own."""
    items, next_cursor = await tokens.list_tokens(query)
    return TokenPage(items=items, next_cursor=next_cursor)


@router.delete("/v1/tokens", responses=responses(401, 403, 404, 422, 503))
async def revoke_tokens(
    which: Annotated[TokensRevoke, Query()], tokens: CurrentTokens, response: Response
) -> TokensRevoked:
    """End every session of a user at once, but the one to keep; one's own, if no user is named."""
    ended = await tokens.revoke_tokens(which)
    tell_changed(response, changed=ended.revoked > 0)
    return ended


@router.delete("/v1/tokens/{token_id}", responses=responses(401, 403, 404, 422, 503))
async def revoke_token(
    token_id: Annotated[UUID, Path(description="The session's id.")], tokens: CurrentTokens, response: Response
) -> TokenRead:
    """End a session and every token of it, at once; ending an ended one changes nothing."""
    token, changed = await tokens.revoke_token(token_id)
    tell_changed(response, changed=changed)
    return token
