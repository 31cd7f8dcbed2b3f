"""The rules about API keys, the same behind both doors. Who stands behind one in a request: `tokens.authentication`."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import crud
from api.api_keys.crud import OwnedKey
from api.api_keys.models import ApiKey
from api.api_keys.schemas import DEFAULT_OVERLAP, ApiKeyCreate, ApiKeyIssued, ApiKeyQuery, ApiKeyRead
from api.api_keys.secret import ApiKeySecret
from api.audit import crud as audit
from api.core.actor import Actor, Scope
from api.core.errors import ApictlError, Kind
from api.core.ids import uuid7
from api.core.pagination import Cursor, cut
from api.users import crud as users
from api.users.models import User
from api.users.records import UserRecords, powers_of, require_active, require_held


class ApiKeyNotFound(ApictlError):
    """No such API key, or none that the caller may know of."""

    kind = Kind.NOT_FOUND
    code = "api-key-not-found"
    title = "There is no such API key"
    default_hint = "apictl list-api-keys shows them"


class ApiKeyEnded(ApictlError):
    """What ended cannot be rotated, and what was rotated has its successor."""

    kind = Kind.CONFLICT
    code = "api-key-ended"
    title = "The API key has ended, or has a successor"


class ApiKeyService:
    """Issues, lists, replaces and ends API keys; one instance serves one call."""

    def __init__(self, session: AsyncSession, actor: Actor) -> None:
        self._session = session
        self._actor = actor
        self._users = UserRecords(session, actor)

    async def create_api_key(self, new: ApiKeyCreate) -> ApiKeyIssued:
        """Issue an API key: one's own, or with `api-keys:write` for somebody who may do no more than the actor.

        Raises:
            UserNotFound: There is no such user, or none that the actor may see.
            UserInactive: They may do nothing.
            ScopeExceedsOwner: They do not hold one of the scopes.
            MissingScope: The actor may not issue keys for them.
        """
        found = await self._users.find(new.user)
        if found is None or not self._is_own(found):
            self._actor.require(Scope.API_KEYS_WRITE)
        # Locked: a deactivation at the same moment comes first, or finds the key.
        owner = await self._users.lock(new.user)
        await self._require_charge_of(owner)
        require_active(owner)
        require_held(new.scopes, await powers_of(self._session, owner), owner=owner.handle)
        lifetime = None if new.expires_in is None else timedelta(seconds=new.expires_in)
        issued = await self._issue(owner, new, lifetime=lifetime)
        await self._audit("api_key.create", issued.id, owner, name=issued.name, scopes=issued.scopes)
        return issued

    async def ensure_api_key(self, new: ApiKeyCreate, *, held: str | None) -> ApiKeyRead | ApiKeyIssued:
        """Return the key whose text is in hand, if it is as wanted and has a third of its life left; else issue one.

        The one in hand then goes on for a day at most, as after a rotation: whoever works with it finds the next one.

        Raises:
            As `create_api_key`.
        """
        self._actor.require(Scope.API_KEYS_WRITE)
        secret = None if held is None else ApiKeySecret.parse(held)
        old = None if secret is None else await crud.owned(self._session, secret.id)
        if secret is None or old is None or not old.is_live or not compare_digest(old.key.digest, secret.digest):
            return await self.create_api_key(new)
        owner = await self._users.find(new.user)
        if owner is not None and owner.id == old.user.id and is_as_wanted(old.key, new):
            return ApiKeyRead(**read(old))
        issued = await self.create_api_key(new)
        await self._require_charge_of(old.user)
        if old.key.successor_id is None:
            await self._succeed(old, issued.id, overlap=DEFAULT_OVERLAP)
        return issued

    async def list_api_keys(self, query: ApiKeyQuery) -> tuple[list[ApiKeyRead], str | None]:
        """Return a page of API keys, the newest first; without `api-keys:read`, only the actor's own.

        Raises:
            UserNotFound: There is no such user, or none that the actor may see.
            BadRequest: The cursor is not of this list.
        """
        user_id = await self._users.whose(query.user, Scope.API_KEYS_READ)
        after = Cursor.decode(query.cursor, sort="-created_at")
        rows = await crud.page(self._session, user_id=user_id, live_only=query.live, limit=query.limit, after=after)
        rows, following = cut(rows, query.limit, lambda row: Cursor("-created_at", row.key.created_at, row.key.id))
        return [ApiKeyRead(**read(row)) for row in rows], following

    async def rotate_api_key(self, key_id: UUID, *, overlap: int) -> ApiKeyIssued:
        """Issue a successor that may do the same for as long again; both are good during the overlap (seconds).

        Raises:
            ApiKeyNotFound: There is none that the actor may see.
            ApiKeyEnded: It no longer works, or was rotated before.
            MissingScope: The actor may not issue keys for its owner.
        """
        row = await self._lock(key_id)
        old, owner = row.key, row.user
        if not row.is_live or old.successor_id is not None:
            if old.successor_id is None:
                raise ApiKeyEnded(f"The API key {key_id} has ended", hint="create a new one: apictl create-api-key")
            raise ApiKeyEnded(
                f"The API key {key_id} was rotated before",
                hint=f"its successor: apictl rotate-api-key {old.successor_id}",
            )
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        new = await self._issue(owner, old, lifetime=lifetime)
        await self._succeed(row, new.id, overlap=overlap)
        return new

    async def revoke_api_key(self, key_id: UUID) -> tuple[ApiKeyRead, bool]:
        """End an API key at once. Returns it, and whether it had not been revoked before.

        Raises:
            ApiKeyNotFound: There is none that the actor may see.
        """
        row = await self._lock(key_id)
        ended = await crud.revoke(self._session, key_id)
        if ended is not None:
            await self._audit("api_key.revoke", key_id, row.user)
        return ApiKeyRead(**read(replace(row, is_live=False))), ended is not None

    async def _lock(self, key_id: UUID) -> OwnedKey:
        if self._actor.is_nobody:
            self._actor.require(Scope.API_KEYS_WRITE)
        row = await crud.owned(self._session, key_id)
        # A key may end itself, or make its successor, whatever else it may do; a token that was got for it may not.
        itself = self._actor.showed_key and key_id == self._actor.api_key_id
        if row is None or not (self._is_own(row.user) or self._actor.may(Scope.API_KEYS_WRITE) or itself):
            raise ApiKeyNotFound(f"There is no API key {key_id}")
        # The user before the key, as everywhere: two who lock in two orders wait for each other.
        await users.by_id(self._session, row.user.id, lock=True)
        row = await crud.owned(self._session, key_id, lock=True)
        if row is None:
            raise ApiKeyNotFound(f"There is no API key {key_id}")
        if not itself:
            await self._require_charge_of(row.user)
        return row

    def _is_own(self, user: User) -> bool:
        return user.id == self._actor.user_id and not self._actor.narrowed

    async def _require_charge_of(self, owner: User) -> None:
        if not self._is_own(owner):
            self._actor.require(Scope.API_KEYS_WRITE)
            # Whoever holds an account's key can do what it can.
            await self._users.require_power_over(owner)

    async def _issue(self, owner: User, like: ApiKeyCreate | ApiKey, *, lifetime: timedelta | None) -> ApiKeyIssued:
        """Make a key of the name, scopes and networks that are written there, and return it with its text."""
        secret = ApiKeySecret.new(uuid7())
        row = await crud.add(
            self._session,
            id=secret.id,
            digest=secret.digest,
            lifetime=lifetime,
            user_id=owner.id,
            name=like.name,
            scopes=like.scopes,
            networks=like.networks,
        )
        return ApiKeyIssued(**read(OwnedKey(row, owner, is_live=True)), key=secret.text)

    async def _succeed(self, old: OwnedKey, successor_id: UUID, *, overlap: int) -> None:
        """Let a key go on beside its successor for so many seconds at most."""
        await crud.succeed(self._session, old.key.id, successor_id=successor_id, overlap=timedelta(seconds=overlap))
        await self._audit("api_key.rotate", old.key.id, old.user, successor=str(successor_id), overlap=overlap)

    async def _audit(self, action: str, key_id: UUID, owner: User, **detail: object) -> None:
        detail = {"user": owner.handle, **detail}
        await audit.add(self._session, self._actor, action=action, target="api_key", target_id=key_id, detail=detail)


def is_as_wanted(key: ApiKey, new: ApiKeyCreate) -> bool:
    """Tell whether a live key is what would be issued, and does not end soon."""
    lifetime = None if key.expires_at is None else key.expires_at - key.created_at
    wanted = None if new.expires_in is None else timedelta(seconds=new.expires_in)
    same = (key.name, set(key.scopes), key.networks, lifetime) == (new.name, set(new.scopes), new.networks, wanted)
    return same and key.successor_id is None and not ends_soon(key)


def ends_soon(key: ApiKey) -> bool:
    """Tell whether a key has no more than a third of its life left, so that the next one is due."""
    if key.expires_at is None:
        return False
    return key.expires_at - datetime.now(UTC) <= (key.expires_at - key.created_at) / 3


def read(row: OwnedKey) -> dict[str, object]:
    """Return the fields of a key that both doors show."""
    stored = {name: getattr(row.key, name) for name in ApiKeyRead.model_fields.keys() - {"user", "is_live"}}
    return stored | {"user": row.user.handle, "is_live": row.is_live}
