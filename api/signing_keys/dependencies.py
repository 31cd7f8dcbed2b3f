"""The service of signing keys for a request."""

from typing import Annotated

from fastapi import Depends

from api.core.dependencies import CurrentRuntime, CurrentSession
from api.signing_keys.service import SigningKeyService
from api.tokens.dependencies import CurrentActor, CurrentKeys


async def get_signing_key_service(
    session: CurrentSession, actor: CurrentActor, runtime: CurrentRuntime, keys: CurrentKeys
) -> SigningKeyService:
    """Return the service of signing keys for this request."""
    return SigningKeyService(session, actor, runtime.settings, keys)


CurrentSigningKeys = Annotated[SigningKeyService, Depends(get_signing_key_service)]
