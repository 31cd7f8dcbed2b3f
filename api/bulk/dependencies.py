"""The service of files of users for a request."""

from typing import Annotated

from fastapi import Depends

from api.bulk.service import BulkService
from api.core.dependencies import CurrentRuntime
from api.tokens.dependencies import CurrentActor


async def get_bulk(actor: CurrentActor, runtime: CurrentRuntime) -> BulkService:
    """Return the service for this request; it has transactions of its own."""
    return BulkService(runtime, actor)


CurrentBulk = Annotated[BulkService, Depends(get_bulk)]
