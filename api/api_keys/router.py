"""The HTTP door to API keys."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Response

from api.api_keys.dependencies import CurrentApiKeys
from api.api_keys.schemas import ApiKeyCreate, ApiKeyIssued, ApiKeyPage, ApiKeyQuery, ApiKeyRead, ApiKeyRotate
from api.core.answers import tell_changed
from api.core.problems import responses

AS_USUAL = ApiKeyRotate()
router = APIRouter(prefix="/v1/api-keys", tags=["api keys"])

KeyId = Annotated[UUID, Path(description="The API key's id.")]


@router.post("", status_code=201, responses=responses(400, 401, 403, 404, 409, 413, 422, 503))
async def create_api_key(new: ApiKeyCreate, api_keys: CurrentApiKeys, response: Response) -> ApiKeyIssued:
    """Create an API key for a person or a service account; its text is shown this once."""
    tell_changed(response, changed=True)
    return await api_keys.create_api_key(new)


@router.get("", responses=responses(400, 401, 403, 404, 422, 503))
async def list_api_keys(query: Annotated[ApiKeyQuery, Query()], api_keys: CurrentApiKeys) -> ApiKeyPage:
    """List API keys, the newest first: everybody's with `api-keys:read`, else one's own."""
    items, next_cursor = await api_keys.list_api_keys(query)
    return ApiKeyPage(items=items, next_cursor=next_cursor)


@router.post("/{api_key_id}/rotate", status_code=201, responses=responses(400, 401, 403, 404, 409, 413, 422, 503))
async def rotate_api_key(
    api_key_id: KeyId, api_keys: CurrentApiKeys, response: Response, how: Annotated[ApiKeyRotate, Body()] = AS_USUAL
) -> ApiKeyIssued:
    """Replace an API key by one that may do the same; for the overlap both are good."""
    tell_changed(response, changed=True)
    return await api_keys.rotate_api_key(api_key_id, overlap=how.overlap)


@router.delete("/{api_key_id}", responses=responses(401, 403, 404, 422, 503))
async def revoke_api_key(api_key_id: KeyId, api_keys: CurrentApiKeys, response: Response) -> ApiKeyRead:
    """End an API key, at once; ending an ended one changes nothing."""
    key, changed = await api_keys.revoke_api_key(api_key_id)
    tell_changed(response, changed=changed)
    return key
