"""The rules about mails that somebody with an account asks for. What their links do: `flows`."""

from typing import Any, Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from api.audit import crud as audit
from api.config import Settings
from api.core import errors
from api.core.actor import Actor, Scope, scopes_named
from api.core.errors import ApictlError
from api.core.passwords import Passwords
from api.mail import crud
from api.mail.links import Kind
from api.mail.sending import MailUnset
from api.roles import crud as roles
from api.roles.service import found
from api.self_service.schemas import InvitationCreate, InvitationRead
from api.throttle.service import Throttle, TooManyAttempts
from api.users import crud as users
from api.users.models import User
from api.users.records import EmailTaken, Outcome, UserRecords, require_active, require_person

ACTIONS: Final = {"reset": "user.send_reset", "verify": "user.send_verification"}


class RegistrationClosed(ApictlError):
    """Accounts are made in another way here."""

    kind = errors.Kind.NOT_PERMITTED
    code = "registration-closed"
    title = "Nobody can make an account like this here"


class InvitationOutcome(NamedTuple):
    """An invitation, and whether a mail was queued for it."""

    invitation: InvitationRead
    changed: bool


class AccountMailService:
    """Queues mails about accounts, in the transaction of their audit entries; one instance serves one call."""

    def __init__(
        self, session: AsyncSession, actor: Actor, settings: Settings, passwords: Passwords, throttle: Throttle
    ) -> None:
        self._session = session
        self._actor = actor
        self._settings = settings
        self._passwords = passwords
        self._throttle = throttle
        self._records = UserRecords(session, actor)

    async def invite_user(self, new: InvitationCreate) -> InvitationOutcome:
        """Invite somebody: the account is made, with these roles, when they follow the link.

        Raises:
            RegistrationClosed: Nobody is invited here.
            EmailTaken: The address is in use.
            TooManyAttempts: They were invited in this very minute, to something else.
            RoleNotFound: There is no such role.
            MissingScope: The actor may not create users, or lacks a scope of a role.
        """
        self._actor.require(Scope.USERS_WRITE)
        if self._settings.registration == "closed":
            raise RegistrationClosed(
                "Nobody is invited here, and nobody registers",
                hint="set APICTL_REGISTRATION=invitation, for servers too; or make the account: apictl create-user",
            )
        self._require_mail()
        for name in new.roles:
            role = found(await roles.by_name(self._session, name), name)
            self._actor.require_power_over(scopes_named(role.scopes))
        if await users.by_email(self._session, new.email) is not None:
            raise EmailTaken.of(new.email, hint=f"they log in, or have a link sent: apictl send-reset {new.email}")
        wanted = sorted(set(new.roles))
        detail = {
            "full_name": new.full_name,
            "roles": wanted,
            # Looked at again when the invitation is accepted: what they may promise, and no more than that.
            "by": self._actor.name,
            "by_id": None if self._actor.user_id is None else str(self._actor.user_id),
            "api_key_id": None if self._actor.api_key_id is None else str(self._actor.api_key_id),
            "scopes": sorted(self._actor.scopes),
        }
        queued = await self._queue("invite", new.email, detail=detail)
        if not queued:
            last = await crud.latest(self._session, "invite", new.email)
            if last.used_at is not None or (last.detail["full_name"], last.detail["roles"]) != (new.full_name, wanted):
                raise TooManyAttempts(
                    f"{new.email} was invited in this very minute, by a link that is used, or to something else",
                    retry_after=60,
                    hint="wait a minute, and invite them again: whichever mail they follow decides",
                )
        else:
            entry = {"email": new.email, "roles": wanted}
            await audit.add(
                self._session, self._actor, action="user.invite", target="user", target_id=None, detail=entry
            )
        return InvitationOutcome(InvitationRead(email=new.email, full_name=new.full_name, roles=wanted), queued)

    async def send_reset(self, ref: str) -> Outcome:
        """Send a user the link by which they choose a new password; nobody else chooses it.

        Raises:
            UserNotFound: There is none.
            UserInactive: They are deactivated.
        """
        return await self._about("reset", ref)

    async def verify_email(self, ref: str) -> Outcome:
        """Send a user the link by which they confirm their address; if it is confirmed, change nothing.

        Raises:
            UserNotFound: There is none.
            UserInactive: They are deactivated.
        """
        return await self._about("verify", ref)

    async def verify_my_email(self) -> Outcome:
        """Send the actor the link by which they confirm their address.

        Raises:
            MissingScope: They came with a narrowed token.
            TooManyAttempts: They, or their network, had too many mails.
        """
        user_id = str(self._actor.require_own_session())
        self._require_mail()
        # Before the row is locked: nobody else waits for the throttle's store.
        user = await self._records.get(user_id)
        if user.email_verified_at is None:
            await self._throttle.take_mail("verify", require_person(user))
        return await self._send("verify", await self._records.lock(user_id))

    async def change_my_email(self, current_password: str, email: str) -> Outcome:
        """Send a link to the address that the actor wants to have; theirs changes when it is followed.

        Whose address it is now makes no difference here: whoever has it is told there.

        Raises:
            WrongPassword: The current password does not match.
            MissingScope: They came with a narrowed token.
            TooManyAttempts: There were too many wrong passwords; or the address, or this network, had too many mails.
        """
        found_now = await self._records.verified(current_password, self._passwords, self._throttle)
        self._require_mail()
        await self._throttle.take_mail("change", email)
        user = await self._records.lock_verified(found_now)
        if user.email == email:
            return Outcome(user, changed=False)
        # With it ends the link.
        detail = {"session_id": None if self._actor.session_id is None else str(self._actor.session_id)}
        queued = await self._queue("change", email, user_id=user.id, detail=detail)
        if queued:
            await self._records.audit("user.send_email_change", user, email=email)
        return Outcome(user, changed=queued)

    async def _about(self, kind: Kind, ref: str) -> Outcome:
        self._actor.require(Scope.USERS_WRITE)
        user = await self._records.lock(ref)
        require_person(user)
        require_active(user)
        return await self._send(kind, user)

    async def _send(self, kind: Kind, user: User) -> Outcome:
        self._require_mail()
        if kind == "verify" and user.email_verified_at is not None:
            return Outcome(user, changed=False)
        queued = await self._queue(kind, require_person(user), user_id=user.id)
        if queued:
            await self._records.audit(ACTIONS[kind], user, email=user.email)
        return Outcome(user, changed=queued)

    async def _queue(self, kind: Kind, address: str, **values: Any) -> bool:
        return await crud.add(self._session, kind, address, request_id=self._actor.request_id, **values)

    def _require_mail(self) -> None:
        if self._settings.mail_url is None:
            raise MailUnset
