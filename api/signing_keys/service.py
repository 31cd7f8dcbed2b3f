"""The rules about signing keys, the same behind both doors. How a process gets hold of them: `ring`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud as audit
from api.config import Settings
from api.core.actor import Actor, Scope
from api.core.errors import ApictlError, Kind
from api.core.pagination import MAX_LIMIT
from api.signing_keys import crud, ring
from api.signing_keys.models import SigningKeyRow
from api.signing_keys.schemas import SigningKeyCreate, SigningKeyRead, State
from api.tokens.keys import LEEWAY, Keys

WAIT_HINT: Final = "retire it then; or, if somebody has stolen it, now: force (--force)"


class SigningKeyNotFound(ApictlError):
    """No such signing key."""

    kind = Kind.NOT_FOUND
    code = "signing-key-not-found"
    title = "There is no such signing key"


class SigningKeyInUse(ApictlError):
    """The key that signs cannot be retired, and one whose tokens may be good only by force."""

    kind = Kind.CONFLICT
    code = "signing-key-in-use"
    title = "The signing key is in use"


class SigningKeyService:
    """Lists, makes and retires signing keys; one instance serves one call."""

    def __init__(self, session: AsyncSession, actor: Actor, settings: Settings) -> None:
        self._session = session
        self._actor = actor
        self._settings = settings

    async def list_keys(self) -> list[SigningKeyRead]:
        """Return the newest signing keys, the newest first."""
        self._actor.require(Scope.SIGNING_KEYS_READ)
        return await self._read(await crud.newest(self._session, limit=MAX_LIMIT))

    async def rotate_keys(self, new: SigningKeyCreate, keys: Keys) -> SigningKeyRead:
        """Make and publish the next signing key; it signs when the wait is over, and the ones before go on verifying.

        Args:
            new: Its algorithm, and how long it waits.
            keys: Seal it.
        """
        self._actor.require(Scope.SIGNING_KEYS_WRITE)
        await crud.lock(self._session)
        number = await crud.last_number(self._session) + 1
        algorithm = new.algorithm or self._settings.signing_algorithm
        row = await ring.add(self._session, keys, number=number, algorithm=algorithm, wait=new.wait)
        assert row is not None  # noqa: S101 - nobody else adds one while we hold the lock
        await self._audit("signing_key.rotate", row.id, algorithm=algorithm, wait=new.wait)
        (read,) = await self._read([row])
        return read

    async def retire_key(self, key_id: UUID, *, force: bool = False) -> tuple[SigningKeyRead, bool]:
        """End a signing key: it verifies no more, and what it signs with is destroyed. Returns whether it was usable.

        Args:
            key_id: Which.
            force: Also while tokens that it signed may be good, which end with it.

        Raises:
            SigningKeyNotFound: There is none.
            SigningKeyInUse: It signs now; or without force, tokens that it signed may be good.
        """
        self._actor.require(Scope.SIGNING_KEYS_WRITE)
        await crud.lock(self._session)
        row = await crud.by_id(self._session, key_id)
        if row is None:
            raise SigningKeyNotFound(f"There is no signing key {key_id}")
        if row.retired_at is None:
            self._require_unused(row, await crud.usable(self._session), await crud.now(self._session), force=force)
        ended = await crud.retire(self._session, key_id)
        if ended is not None:
            row.retired_at = ended
            await self._audit("signing_key.retire", key_id, force=force)
        (read,) = await self._read([row])
        return read, ended is not None

    def _require_unused(
        self, row: SigningKeyRow, usable: Sequence[SigningKeyRow], now: datetime, *, force: bool
    ) -> None:
        later = [other for other in usable if order(other) > order(row)]
        if row.active_from <= now and not any(other.active_from <= now for other in later):
            raise SigningKeyInUse(f"{row.id} is the key that signs", hint="make the next one first: apictl rotate-keys")
        if row.active_from > now or force:
            return
        superseded = min(later, key=order).active_from
        until = superseded + timedelta(seconds=self._settings.access_token_ttl + LEEWAY)
        if until > now:
            raise SigningKeyInUse(
                f"Tokens that {row.id} signed may be good until {until:%Y-%m-%d %H:%M:%S} UTC", hint=WAIT_HINT
            )

    async def _read(self, rows: Sequence[SigningKeyRow]) -> list[SigningKeyRead]:
        now, usable = await crud.now(self._session), await crud.usable(self._session)
        signing = max((row for row in usable if row.active_from <= now), key=order, default=None)
        return [
            SigningKeyRead(
                **{name: getattr(row, name) for name in SigningKeyRead.model_fields.keys() - {"state"}},
                state=state(row, signing, now),
            )
            for row in rows
        ]

    async def _audit(self, action: str, key_id: UUID, **detail: object) -> None:
        await audit.add(
            self._session, self._actor, action=action, target="signing_key", target_id=key_id, detail=detail
        )


def order(row: SigningKeyRow) -> tuple[datetime, int]:
    """Return the key by which signing keys follow each other."""
    return row.active_from, row.number


def state(row: SigningKeyRow, signing: SigningKeyRow | None, now: datetime) -> State:
    """Return what a key does now."""
    if row.retired_at is not None:
        return "retired"
    if row.active_from > now:
        return "pending"
    return "signing" if signing is not None and row.id == signing.id else "verifying"
