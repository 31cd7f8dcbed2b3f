"""The services of accounts by mail for a request."""

from typing import Annotated

from fastapi import Depends, Request

from api.core.dependencies import CurrentRuntime, CurrentSession
from api.self_service.flows import AccountLinks
from api.self_service.service import AccountMailService
from api.tokens.dependencies import CurrentActor, CurrentClient
from api.tokens.keys import Keys


async def get_account_mails(
    session: CurrentSession, actor: CurrentActor, runtime: CurrentRuntime
) -> AccountMailService:
    """Return the service of mails about accounts for this request."""
    return AccountMailService(session, actor, runtime.settings, runtime.passwords)


async def get_account_links(request: Request, runtime: CurrentRuntime, client: CurrentClient) -> AccountLinks:
    """Return what whoever has a link may do."""
    keys: Keys = request.app.state.keys
    return AccountLinks(runtime, keys.links, client)


CurrentAccountMails = Annotated[AccountMailService, Depends(get_account_mails)]
CurrentAccountLinks = Annotated[AccountLinks, Depends(get_account_links)]
