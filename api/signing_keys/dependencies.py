"""The service of signing keys for a request."""

from typing import Annotated

from fastapi import Depends

from api.core.dependencies import CurrentRuntime
from api.signing_keys.service import SigningKeyService
from api.tokens.dependencies import CurrentActor, CurrentKeys, SessionOnce


async def get_signing_key_service(
    session: SessionOnce, actor: CurrentActor, runtime: CurrentRuntime, keys: CurrentKeys
) -> SigningKeyService:
    """Return the service of signing keys for this request."""
    return SigningKeyService(session, actor, runtime.settings, keys)


CurrentSigningKeys = Annotated[SigningKeyService, Depends(get_signing_key_service)]
