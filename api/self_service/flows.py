"""What somebody without credentials may do: ask for a mail, and use the link in it, once.

Whoever asks is told the same whatever the address, in the same time: all that is done then is to queue a mail, with the
same statements for everybody. Whose address it is, the worker finds out (`mail.worker`).
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from api.api_keys import crud as api_keys
from api.core import errors
from api.core.actor import NO_SCOPES, Actor, Scope, scopes_named
from api.core.errors import ApictlError
from api.core.runtime import Runtime
from api.mail import crud
from api.mail.links import Kind, is_right, mail_id
from api.mail.models import Mail
from api.roles.service import RoleService
from api.self_service.schemas import Accepted, PasswordReset, RegistrationComplete
from api.self_service.service import RegistrationClosed
from api.throttle.service import Throttle
from api.tokens import crud as tokens
from api.tokens.authentication import Client
from api.users import crud as users
from api.users.models import User
from api.users.records import EmailTaken, UserRecords, powers_of
from api.users.schemas import UserCreate
from api.users.service import UserService

log: Final = logging.getLogger("apictl")


class InvalidLink(ApictlError):
    """The link was used, or is too old, or something has changed since it was sent; one answer for every reason."""

    kind = errors.Kind.CREDENTIALS
    code = "invalid-link"
    title = "The link is not good, or no longer"
    default_hint = "it is good once, and for 15 minutes: ask for another"


class AccountLinks:
    """Asks for links, and uses them; in transactions of its own, because hashes are waited for in between."""

    def __init__(self, runtime: Runtime, key: bytes, client: Client, throttle: Throttle) -> None:
        self._runtime = runtime
        self._key = key
        self._client = client
        self._throttle = throttle

    async def register(self, email: str) -> Accepted:
        """Send a link by which whoever reads it makes an account; or word that there is one.

        Raises:
            RegistrationClosed: Accounts are not made like this here.
            TooManyAttempts: The address, or this network, had too many mails.
        """
        if self._runtime.settings.registration != "open":
            raise RegistrationClosed(hint="ask somebody who runs this for an invitation")
        return await self._ask("register", email)

    async def forgot_password(self, email: str) -> Accepted:
        """Send a link by which a new password is chosen, if there is such an account.

        Raises:
            TooManyAttempts: The address, or this network, had too many mails.
        """
        return await self._ask("reset", email)

    async def _ask(self, kind: Kind, email: str) -> Accepted:
        await self._throttle.take_mail(kind, email)
        if self._runtime.settings.mail_url is None:
            log.warning("somebody waits for a mail (%s), and APICTL_SMTP_URL is not set", kind)
        async with self._runtime.transaction() as session:
            detail = {"address": self._client.address}
            await crud.add(session, kind, email, request_id=self._client.request_id, detail=detail)
        return Accepted()

    async def complete_registration(self, given: RegistrationComplete) -> User:
        """Make the account of a registration or an invitation, its address confirmed.

        Raises:
            RegistrationClosed: Accounts are not made like this here, any more.
            InvalidLink: The link is not good, or no longer; or who invited them may not promise that any more.
            WeakPassword: The policy refuses the password; the link stays good.
            EmailTaken: Somebody has made an account with the address meanwhile.
        """
        setting = self._runtime.settings.registration
        if setting == "closed":
            raise RegistrationClosed
        mail, _ = await self._found(given.token, "invite", *(("register",) if setting == "open" else ()))
        full_name = mail.detail.get("full_name", "") if given.full_name is None else given.full_name
        new = UserCreate(email=mail.address, full_name=full_name)
        hashed = await self._runtime.passwords.hash(given.password, personal=[new.email, new.full_name])
        async with self._runtime.transaction() as session:
            await self._use(session, mail, given.token, None)
            # It is by themselves, and by nobody who may make others.
            actor = self._actor(new.email, None, Scope.USERS_WRITE)
            made = await UserService(session, actor, self._runtime.passwords).create_user(new, hashed=hashed)
            if mail.kind == "invite":
                inviter = await self._inviter(session, mail)
                try:
                    # Also without roles: an account is made, for which somebody has vouched.
                    inviter.require(Scope.USERS_WRITE)
                    for role in mail.detail["roles"]:
                        await RoleService(session, inviter).grant_role(str(made.user.id), role)
                except ApictlError:
                    raise InvalidLink("The invitation does not hold any more", hint="ask for another") from None
            # The others that wait for this address are for nobody any more, whatever becomes of the account.
            await crud.uninvite(session, mail.address)
            user = await users.by_id(session, made.user.id, lock=True)
            assert user is not None  # noqa: S101 - made above
            return await self._verified(session, actor, user, "user.verify_email")

    async def reset_password(self, given: PasswordReset) -> User:
        """Set the password of whoever the link was sent to; all their sessions end, and their address is confirmed.

        Raises:
            InvalidLink: The link is not good, or no longer.
            WeakPassword: The policy refuses the password; the link stays good.
        """
        mail, user = await self._found(given.token, "reset")
        assert user is not None  # noqa: S101 - else its secret could not be right
        hashed = await self._runtime.passwords.hash(given.password, personal=[mail.address, user.full_name])
        async with self._using(mail, given.token, user.id) as (session, locked, actor):
            await tokens.revoke_all(session, locked.id, because="password reset")
            return await self._verified(session, actor, locked, "user.reset_password", password_hash=hashed)

    async def confirm_email(self, token: str) -> User:
        """Note that an address is its owner's; of a change, make it the address of the account.

        Raises:
            InvalidLink: The link is not good, or no longer.
            EmailTaken: Another account has got the new address meanwhile.
        """
        mail, user = await self._found(token, "verify", "change")
        assert user is not None  # noqa: S101 - else its secret could not be right
        async with self._using(mail, token, user.id) as (session, locked, actor):
            if mail.kind == "verify":
                return await self._verified(session, actor, locked, "user.verify_email")
            # Whoever asked for it may have been let out of the account meanwhile.
            asked_in = mail.detail.get("session_id")
            if asked_in is None or await tokens.identity(session, UUID(asked_in), locked.id) is None:
                raise InvalidLink
            # To the address that will log nobody in any more.
            await crud.add(session, "changed", user.email or "", user_id=locked.id)
            try:
                return await self._verified(session, actor, locked, "user.change_email", email=mail.address)
            except IntegrityError:
                raise EmailTaken.of(mail.address) from None

    async def _found(self, token: str, *kinds: Kind) -> tuple[Mail, User | None]:
        """Return the mail that a link is from: nothing is hashed for whoever has none that is good.

        Raises:
            InvalidLink: There is none, or no longer.
        """
        which = mail_id(token)
        if which is None:
            raise InvalidLink
        async with self._runtime.transaction(readonly=True) as session:
            found = await crud.usable(session, which, kinds)
        if found is None or not is_right(token, *found, self._key):
            raise InvalidLink
        return found

    @asynccontextmanager
    async def _using(self, mail: Mail, token: str, user_id: UUID) -> AsyncIterator[tuple[AsyncSession, User, Actor]]:
        """Use a link up, in a transaction in which nobody else can change the account that it is about.

        Raises:
            InvalidLink: It was used meanwhile, or the account is another.
        """
        async with self._runtime.transaction() as session:
            # The user before anything of theirs, as everywhere.
            user = await users.by_id(session, user_id, lock=True)
            if user is None or not user.is_active:
                raise InvalidLink
            await self._use(session, mail, token, user)
            yield session, user, self._actor(user.handle, user.id)

    async def _use(self, session: AsyncSession, mail: Mail, token: str, user: User | None) -> None:
        if not is_right(token, mail, user, self._key) or not await crud.use(session, mail.id):
            raise InvalidLink

    async def _verified(self, session: AsyncSession, actor: Actor, user: User, action: str, **values: object) -> User:
        """Change a user who reads what is sent to their address."""
        if user.email_verified_at is None or "email" in values:
            values["email_verified_at"] = func.now()
        changed = await users.change(session, user.id, **values)
        assert changed is not None  # noqa: S101 - it is locked
        detail = {"email": changed.email}
        await UserRecords(session, actor).audit(action, changed, **detail)
        return changed

    async def _inviter(self, session: AsyncSession, mail: Mail) -> Actor:
        """Return who invited, with what they may do now of what they might do then."""
        scopes = scopes_named(mail.detail["scopes"])
        user_id, key_id = (one and UUID(one) for one in (mail.detail["by_id"], mail.detail.get("api_key_id")))
        if user_id is not None:
            inviter = await users.by_id(session, user_id)
            scopes = NO_SCOPES if inviter is None else scopes & (await powers_of(session, inviter)).scopes
        if key_id is not None and await api_keys.identity(session, key_id) is None:
            scopes = NO_SCOPES
        return Actor(
            name=mail.detail["by"],
            scopes=scopes,
            door="http",
            user_id=user_id,
            api_key_id=key_id,
            request_id=self._client.request_id,
        )

    def _actor(self, name: str, user_id: UUID | None, *scopes: Scope) -> Actor:
        return Actor(
            name=name, scopes=frozenset(scopes), door="http", user_id=user_id, request_id=self._client.request_id
        )
