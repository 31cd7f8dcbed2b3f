"""The HTTP door to users."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response

from api.core.answers import Answer, dumps, tell_changed
from api.core.dependencies import NO_DRY_RUN, IfMatch
from api.core.problems import responses
from api.tokens.dependencies import CurrentBearer
from api.users.dependencies import CurrentListing, CurrentUsers
from api.users.listing import Rows
from api.users.models import User
from api.users.records import Outcome
from api.users.schemas import (
    CreateOptions,
    PasswordChange,
    PasswordSet,
    ProfileUpdate,
    UserCreate,
    UserPage,
    UserQuery,
    UserRead,
    UserRef,
    UserUpdate,
)

router = APIRouter(prefix="/v1/users", tags=["users"])

Ref = Annotated[UserRef, Path()]
READ = responses(400, 401, 403, 404, 422, 503)
WRITE = responses(400, 401, 403, 404, 409, 412, 413, 422, 503)


def shown(user: User | UserRead, response: Response) -> UserRead:
    """Return the body for a user, and set its entity tag."""
    response.headers["ETag"] = f'"{user.version}"'
    return UserRead.model_validate(user)


def shown_outcome(outcome: Outcome, response: Response) -> UserRead:
    """Return the body for a user whom the request may have changed, and say whether it has."""
    tell_changed(response, changed=outcome.changed)
    return shown(outcome.user, response)


def page_of(rows: Rows, next_cursor: str | None) -> Response:
    """Return a page of accounts, as `UserPage` would write it: that would take longer than to read them."""
    return Answer(dumps({"next_cursor": next_cursor, "items": [dict(row) for row in rows]}), 200)


@router.post(
    "",
    status_code=201,
    responses=responses(400, 401, 403, 409, 413, 422, 503)
    | {200: {"model": UserRead, "description": "The address was taken, and `if_exists` said so."}},
)
async def create_user(
    new: UserCreate, users: CurrentUsers, response: Response, how: Annotated[CreateOptions, Query()]
) -> UserRead:
    """Create a user; with `if_exists=skip` or `update`, 200 and the user who has the address."""
    outcome = await users.create_user(new, is_superuser=how.is_superuser, if_exists=how.if_exists)
    response.status_code = 201 if outcome.created else 200
    response.headers["Location"] = f"/v1/users/{quote(str(outcome.user.id))}"
    return shown_outcome(outcome, response)


@router.get("", responses=READ, response_model=UserPage)
async def list_users(query: Annotated[UserQuery, Query()], listing: CurrentListing) -> Response:
    """List users, a page at a time."""
    return page_of(*await listing.list_users(query))


@router.get("/me", responses=READ)
async def show_me(bearer: CurrentBearer, response: Response) -> UserRead:
    """Show the user who asks."""
    # As they were read a moment ago, to see whether they may.
    return shown(bearer.user, response)


@router.patch("/me", responses=WRITE)
async def update_me(changes: ProfileUpdate, users: CurrentUsers, if_match: IfMatch, response: Response) -> UserRead:
    """Change the name of the user who asks."""
    outcome = await users.update_profile(changes.full_name, if_version=if_match)
    return shown_outcome(outcome, response)


@router.put("/me/password", responses=WRITE | responses(429), dependencies=NO_DRY_RUN)
async def change_my_password(change: PasswordChange, users: CurrentUsers, response: Response) -> UserRead:
    """Change the password of the user who asks; all their other sessions end."""
    outcome = await users.change_password(change.current_password, change.new_password)
    return shown_outcome(outcome, response)


@router.get("/{user}", responses=READ)
async def show_user(user: Ref, users: CurrentUsers, response: Response) -> UserRead:
    """Show a user."""
    return shown(await users.get_user(user), response)


@router.patch("/{user}", responses=WRITE)
async def update_user(
    user: Ref, changes: UserUpdate, users: CurrentUsers, if_match: IfMatch, response: Response
) -> UserRead:
    """Change a user's e-mail address or name."""
    return shown_outcome(await users.update_user(user, changes, if_version=if_match), response)


@router.put("/{user}/password", responses=WRITE)
async def set_password(
    user: Ref, new: PasswordSet, users: CurrentUsers, if_match: IfMatch, response: Response
) -> UserRead:
    """Set a user's password; all their sessions end."""
    return shown_outcome(await users.set_password(user, new.password, if_version=if_match), response)


@router.post("/{user}/activate", responses=WRITE)
async def activate_user(user: Ref, users: CurrentUsers, if_match: IfMatch, response: Response) -> UserRead:
    """Let a user log in again."""
    return shown_outcome(await users.activate_user(user, if_version=if_match), response)


@router.post("/{user}/deactivate", responses=WRITE)
async def deactivate_user(user: Ref, users: CurrentUsers, if_match: IfMatch, response: Response) -> UserRead:
    """Keep a user from logging in; all their sessions end."""
    return shown_outcome(await users.deactivate_user(user, if_version=if_match), response)


@router.post("/{user}/promote", responses=WRITE)
async def promote_user(user: Ref, users: CurrentUsers, if_match: IfMatch, response: Response) -> UserRead:
    """Make a user a superuser, who may do everything; all their sessions end."""
    return shown_outcome(await users.promote_user(user, if_version=if_match), response)


@router.post("/{user}/demote", responses=WRITE)
async def demote_user(user: Ref, users: CurrentUsers, if_match: IfMatch, response: Response) -> UserRead:
    """Take a superuser's powers."""
    return shown_outcome(await users.demote_user(user, if_version=if_match), response)


@router.delete("/{user}", responses=WRITE)
async def delete_user(user: Ref, users: CurrentUsers, if_match: IfMatch, response: Response) -> UserRead:
    """Delete a user and their sessions; shows them as they were."""
    tell_changed(response, changed=True)
    return UserRead.model_validate(await users.delete_user(user, if_version=if_match))
