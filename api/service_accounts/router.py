"""The HTTP door to service accounts; once made, they are at `/v1/users/{name}` like everybody."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.core.problems import responses
from api.service_accounts.dependencies import CurrentServiceAccounts
from api.service_accounts.schemas import CreateOptions, ServiceAccountCreate, ServiceAccountQuery
from api.users.dependencies import CurrentListing
from api.users.router import page_of, shown_outcome
from api.users.schemas import UserPage, UserRead

router = APIRouter(prefix="/v1/service-accounts", tags=["service accounts"])


@router.post(
    "",
    status_code=201,
    responses=responses(400, 401, 403, 404, 409, 413, 422, 503)
    | {200: {"model": UserRead, "description": "The name was taken, and `if_exists` said so."}},
)
async def create_service_account(
    new: ServiceAccountCreate,
    accounts: CurrentServiceAccounts,
    response: Response,
    how: Annotated[CreateOptions, Query()],
) -> UserRead:
    """Create a service account: for a machine, without a password or an address."""
    outcome = await accounts.create_service_account(new, if_exists=how.if_exists)
    response.status_code = 201 if outcome.created else 200
    response.headers["Location"] = f"/v1/users/{outcome.user.id}"
    return shown_outcome(outcome, response)


@router.get("", responses=responses(400, 401, 403, 422, 503), response_model=UserPage)
async def list_service_accounts(query: Annotated[ServiceAccountQuery, Query()], listing: CurrentListing) -> Response:
    """List service accounts, in the order of their names."""
    return page_of(*await listing.list_service_accounts(query))
