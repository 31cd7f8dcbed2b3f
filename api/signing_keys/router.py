"""The HTTP door to signing keys, and what others verify our tokens with."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Response

from api.core.answers import tell_changed
from api.core.problems import responses
from api.signing_keys.dependencies import CurrentSigningKeys
from api.signing_keys.schemas import (
    MAX_AGE,
    JwkSet,
    SigningKeyCreate,
    SigningKeyPage,
    SigningKeyQuery,
    SigningKeyRead,
    SigningKeyRetire,
)
from api.tokens.dependencies import CurrentKeys

router = APIRouter(tags=["signing keys"])


@router.get("/.well-known/jwks.json", responses=responses(503), openapi_extra={"security": []})
async def jwks(keys: CurrentKeys, response: Response) -> JwkSet:
    """Return the public keys that access tokens are verified with (RFC 7517), also the one that will sign next."""
    response.headers["Cache-Control"] = f"public, max-age={MAX_AGE}"
    return JwkSet(keys=[key.public_jwk for key in keys.ring.values() if key.public_jwk is not None])


@router.get("/v1/signing-keys", responses=responses(400, 401, 403, 422, 503))
async def list_keys(query: Annotated[SigningKeyQuery, Query()], signing_keys: CurrentSigningKeys) -> SigningKeyPage:
    """List the signing keys, the newest first."""
    items, next_cursor = await signing_keys.list_keys(query)
    return SigningKeyPage(items=items, next_cursor=next_cursor)


@router.post("/v1/signing-keys", status_code=201, responses=responses(400, 401, 403, 409, 413, 422, 503))
async def rotate_keys(
    new: Annotated[SigningKeyCreate, Body(default_factory=SigningKeyCreate)],
    signing_keys: CurrentSigningKeys,
    response: Response,
) -> SigningKeyRead:
    """Make and publish the next signing key; it signs when the wait is over, and the ones before go on verifying."""
    tell_changed(response, changed=True)
    return await signing_keys.rotate_keys(new)


@router.delete("/v1/signing-keys/{key_id}", responses=responses(401, 403, 404, 409, 422, 503))
async def retire_key(
    key_id: Annotated[UUID, Path(description="The signing key's id, the `kid` of its tokens.")],
    signing_keys: CurrentSigningKeys,
    how: Annotated[SigningKeyRetire, Query()],
    response: Response,
) -> SigningKeyRead:
    """Retire a signing key: nothing that it signed is good any more; retiring a retired one changes nothing."""
    key, changed = await signing_keys.retire_key(key_id, force=how.force)
    tell_changed(response, changed=changed)
    return key
