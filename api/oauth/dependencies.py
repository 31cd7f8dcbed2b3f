"""The services of the OAuth endpoints for a request."""

from typing import Annotated

from fastapi import Depends, Form, Request

from api.core.dependencies import CurrentRuntime
from api.oauth.schemas import TokenForm
from api.oauth.service import IntrospectionService
from api.tokens.dependencies import (
    BasicClient,
    BearerToken,
    CurrentClient,
    CurrentGrants,
    CurrentKeys,
    authenticated,
    get_bearer,
)
from api.tokens.refusals import InvalidClient


async def get_introspector(
    request: Request,
    form: Annotated[TokenForm, Form()],
    basic: BasicClient,
    token: BearerToken,
    grants: CurrentGrants,
    runtime: CurrentRuntime,
    keys: CurrentKeys,
    client: CurrentClient,
) -> IntrospectionService:
    """Return the service for whoever asks: an OAuth client with its secret, or whoever holds a bearer token.

    Raises:
        InvalidClient: The client's id and secret are not right.
        NotAuthenticated: There is neither.
    """
    shown = await authenticated(form, basic, grants, client)
    if shown is None and (basic is not None or form.client_id):
        raise InvalidClient("The client shows no secret")
    bearer = shown or await get_bearer(request, token, runtime, keys, client)
    return IntrospectionService(runtime, keys, bearer.actor)


Introspector = Annotated[IntrospectionService, Depends(get_introspector)]
