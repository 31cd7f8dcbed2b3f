"""The service of API keys for a request."""

from typing import Annotated

from fastapi import Depends

from api.api_keys.service import ApiKeyService
from api.tokens.dependencies import CurrentActor, SessionOnce


async def get_api_key_service(session: SessionOnce, actor: CurrentActor) -> ApiKeyService:
    """Return the service of API keys for this request."""
    return ApiKeyService(session, actor)


CurrentApiKeys = Annotated[ApiKeyService, Depends(get_api_key_service)]
