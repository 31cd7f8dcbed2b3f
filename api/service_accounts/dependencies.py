"""The service of service accounts for a request."""

from typing import Annotated

from fastapi import Depends

from api.service_accounts.service import ServiceAccountService
from api.tokens.dependencies import CurrentActor, SessionOnce


async def get_service_account_service(session: SessionOnce, actor: CurrentActor) -> ServiceAccountService:
    """Return the service of service accounts for this request."""
    return ServiceAccountService(session, actor)


CurrentServiceAccounts = Annotated[ServiceAccountService, Depends(get_service_account_service)]
