"""The services of the OAuth endpoints for a request."""

from typing import Annotated

from fastapi import Depends, Form

from api.core.dependencies import CurrentRuntime
from api.oauth.schemas import TokenForm
from api.oauth.service import IntrospectionService
from api.tokens.dependencies import BasicClient, BearerToken, CurrentClient, CurrentGrants, CurrentKeys, get_actor


async def get_introspector(
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
    shown = basic or ((form.client_id or "", form.client_secret) if form.client_secret else None)
    if shown is not None:
        actor = (await grants.by_client(*shown, client=client)).actor
    else:
        actor = await get_actor(token, runtime, keys, client)
    return IntrospectionService(runtime, keys, actor)


Introspector = Annotated[IntrospectionService, Depends(get_introspector)]
