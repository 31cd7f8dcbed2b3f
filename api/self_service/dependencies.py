"""The services of accounts by mail for a request."""

from typing import Annotated

from fastapi import Depends, Request

from api.core.dependencies import CurrentRuntime
from api.self_service.flows import AccountLinks
from api.self_service.service import AccountMailService
from api.tokens.dependencies import CurrentActor, CurrentClient, CurrentThrottle, SessionOnce
from api.tokens.keys import Keys


async def get_account_mails(
    session: SessionOnce, actor: CurrentActor, runtime: CurrentRuntime, throttle: CurrentThrottle
) -> AccountMailService:
    """Return the service of mails about accounts for this request."""
    return AccountMailService(session, actor, runtime.settings, runtime.passwords, throttle)


async def get_account_links(
    request: Request, runtime: CurrentRuntime, client: CurrentClient, throttle: CurrentThrottle
) -> AccountLinks:
    """Return what whoever has a link may do."""
    keys: Keys = request.app.state.keys
    return AccountLinks(runtime, keys.links, client, throttle)


CurrentAccountMails = Annotated[AccountMailService, Depends(get_account_mails)]
CurrentAccountLinks = Annotated[AccountLinks, Depends(get_account_links)]
