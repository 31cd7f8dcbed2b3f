"""The HTTP door for OAuth clients and resource servers, by the RFCs; the token endpoint is in `tokens.router`."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Response

from api.core.actor import ALL_SCOPES
from api.core.dependencies import NO_DRY_RUN, CurrentRuntime
from api.core.problems import responses
from api.oauth.dependencies import Introspector
from api.oauth.revocation import revoke
from api.oauth.schemas import Introspection, ServerMetadata, TokenForm
from api.tokens.dependencies import BasicClient, CurrentClient, CurrentGrants, CurrentKeys, authenticated
from api.tokens.refusals import GRANT_TYPES, OAuthError
from api.tokens.route import OAuthRoute
from api.tokens.router import REFUSED

router = APIRouter(tags=["oauth"], route_class=OAuthRoute)
# As everywhere, or as RFC 6749 says it to a client that shows an id and a secret.
UNAUTHORIZED: Final[dict[int | str, dict[str, Any]]] = {401: REFUSED[400] | responses(401)[401]}


@router.post(
    "/v1/auth/revoke",
    response_class=Response,
    responses=responses(413, 503) | REFUSED | {401: REFUSED[400]},
    openapi_extra={"security": []},
    dependencies=NO_DRY_RUN,
)
async def revoke_by_holder(
    form: Annotated[TokenForm, Form()],
    basic: BasicClient,
    grants: CurrentGrants,
    runtime: CurrentRuntime,
    keys: CurrentKeys,
    client: CurrentClient,
) -> Response:
    """End the session of an access or refresh token, or an API key (RFC 7009); also 200 for what is no token."""
    await authenticated(form, basic, grants, client)
    if not form.token:
        raise OAuthError("token is missing", hint="send a form with token=…")
    await revoke(form.token, runtime=runtime, keys=keys, client=client)
    return Response()


@router.post(
    "/v1/auth/introspect",
    response_model_exclude_none=True,
    responses=responses(403, 413, 503) | REFUSED | UNAUTHORIZED,
)
async def introspect_token(form: Annotated[TokenForm, Form()], introspection: Introspector) -> Introspection:
    """Tell a resource server what a token is good for now (RFC 7662); of one that is not, only that."""
    return await introspection.introspect_token(form.token)


@router.get("/.well-known/oauth-authorization-server", responses=responses(503), openapi_extra={"security": []})
async def server_metadata(runtime: CurrentRuntime) -> ServerMetadata:
    """Tell OAuth clients where everything is, and what it can do (RFC 8414)."""
    settings = runtime.settings
    base = settings.public_url
    return ServerMetadata(
        issuer=settings.issuer,
        token_endpoint=f"{base}/v1/auth/token",
        jwks_uri=f"{base}/.well-known/jwks.json",
        device_authorization_endpoint=f"{base}/v1/auth/device",
        revocation_endpoint=f"{base}/v1/auth/revoke",
        introspection_endpoint=f"{base}/v1/auth/introspect",
        service_documentation=f"{base}/docs",
        grant_types_supported=[*GRANT_TYPES],
        # There is no authorization endpoint.
        response_types_supported=[],
        scopes_supported=sorted(ALL_SCOPES),
        token_endpoint_auth_methods_supported=["none", "client_secret_basic", "client_secret_post"],
        revocation_endpoint_auth_methods_supported=["none", "client_secret_basic", "client_secret_post"],
        introspection_endpoint_auth_methods_supported=["client_secret_basic", "client_secret_post", "Bearer"],
    )
