"""The rules about signing keys, the same behind both doors. How a process gets hold of them: `ring`."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud as audit
from api.config import Settings
from api.core.actor import Actor, Scope
from api.core.errors import ApictlError, Kind
from api.core.pagination import Cursor, cut
from api.core.sealing import unseal
from api.signing_keys import crud
from api.signing_keys.jwk import make_sealed, order, purpose, signing
from api.signing_keys.models import SigningKeyRow
from api.signing_keys.schemas import SigningKeyCreate, SigningKeyQuery, SigningKeyRead, State
from api.tokens.keys import LEEWAY, Keys
from api.users.records import UserRecords

MAX_USABLE: Final = 20
WAIT_HINT: Final = "retire it then; or, if somebody has stolen it, now: force (--force)"


class SigningKeyNotFound(ApictlError):
    """No such signing key."""

    kind = Kind.NOT_FOUND
    code = "signing-key-not-found"
    title = "There is no such signing key"
    default_hint = "apictl list-keys shows them"


class SigningKeyInUse(ApictlError):
    """The key that signs cannot be retired, and one whose tokens may be good only by force."""

    kind = Kind.CONFLICT
    code = "signing-key-in-use"
    title = "The signing key is in use"


class TooManySigningKeys(ApictlError):
    """Everybody who verifies our tokens fetches all keys that are not retired."""

    kind = Kind.CONFLICT
    code = "too-many-signing-keys"
    title = "There are too many signing keys"


class SigningKeyService:
    """Lists, makes and retires signing keys; one instance serves one call."""

    def __init__(self, session: AsyncSession, actor: Actor, settings: Settings, keys: Keys) -> None:
        self._keys = keys
        self._session = session
        self._actor = actor
        self._settings = settings

    async def list_keys(self, query: SigningKeyQuery) -> tuple[list[SigningKeyRead], str | None]:
        """Return a page of signing keys, retired ones too, the newest first.

        Raises:
            BadRequest: The cursor is not of this list.
        """
        self._actor.require(Scope.SIGNING_KEYS_READ)
        after = Cursor.decode(query.cursor, sort="-created_at")
        rows = await crud.page(self._session, limit=query.limit, after=after)
        rows, following = cut(rows, query.limit, lambda row: Cursor("-created_at", row.created_at, row.id))
        return await self._read(*rows), following

    async def rotate_keys(self, new: SigningKeyCreate) -> SigningKeyRead:
        """Make and publish the next signing key; it signs when the wait is over, and the ones before go on verifying.

        The first key of all does not wait: nothing else signs.

        Args:
            new: Its algorithm, and how long it waits.

        Raises:
            TooManySigningKeys: Some must be retired first.
            InvalidToken: The actor's session or key ended meanwhile.
        """
        self._actor.require(Scope.SIGNING_KEYS_WRITE)
        algorithm = new.algorithm or self._settings.signing_algorithm
        # Before the lock: RSA takes its time.
        made = await asyncio.to_thread(make_sealed, algorithm, self._keys.sealing)
        await crud.lock(self._session)
        await UserRecords(self._session, self._actor).require_still()
        usable = await crud.usable(self._session)
        if len(usable) >= MAX_USABLE:
            raise TooManySigningKeys(
                f"There are {len(usable)} signing keys that are not retired", hint="retire old ones: apictl retire-key"
            )
        wait = new.wait if usable else 0
        row = await crud.add(self._session, made, wait=timedelta(seconds=wait))
        await self._audit("signing_key.rotate", row.id, algorithm=algorithm, wait=wait)
        return (await self._read(row))[0]

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
        retired = await crud.retire(self._session, key_id)
        if retired is not None:
            await self._audit("signing_key.retire", key_id, force=force)
        return (await self._read(retired or row))[0], retired is not None

    def _require_unused(
        self, row: SigningKeyRow, usable: Sequence[SigningKeyRow], now: datetime, *, force: bool
    ) -> None:
        if row is self._signing(usable, now):
            raise SigningKeyInUse(
                f"{row.id} is the key that signs",
                hint="make the next one first, and retire this one when that signs: apictl rotate-keys",
            )
        if row.active_from > now or force:
            return
        later = (other for other in usable if order(other) > order(row) and self._opens(other))
        superseded = min(later, key=order, default=None)
        # None: this process could never sign with it, and nothing later does.
        if superseded is None:
            return
        until = superseded.active_from + timedelta(seconds=self._settings.access_token_ttl + LEEWAY)
        if until > now:
            raise SigningKeyInUse(
                f"Tokens that {row.id} signed may be good until {until:%Y-%m-%d %H:%M:%S} UTC", hint=WAIT_HINT
            )

    def _signing(self, usable: Sequence[SigningKeyRow], now: datetime) -> SigningKeyRow | None:
        """Return the key that signs, as every process decides it: one sealed with another secret key never does."""
        return signing((row for row in usable if self._opens(row)), now)

    def _opens(self, row: SigningKeyRow) -> bool:
        place = purpose(str(row.id), row.algorithm)
        return row.sealed is not None and unseal(row.sealed, self._keys.sealing, purpose=place) is not None

    async def _read(self, *rows: SigningKeyRow) -> list[SigningKeyRead]:
        now = await crud.now(self._session)
        signs = self._signing(await crud.usable(self._session), now)
        return [
            SigningKeyRead(
                **{name: getattr(row, name) for name in SigningKeyRead.model_fields.keys() - {"state"}},
                state=state(row, now, signs=row is signs),
            )
            for row in rows
        ]

    async def _audit(self, action: str, key_id: UUID, **detail: object) -> None:
        await audit.add(
            self._session, self._actor, action=action, target="signing_key", target_id=key_id, detail=detail
        )


def state(row: SigningKeyRow, now: datetime, *, signs: bool) -> State:
    """Return what a key does now."""
    if row.retired_at is not None:
        return "retired"
    if row.active_from > now:
        return "pending"
    return "signing" if signs else "verifying"
