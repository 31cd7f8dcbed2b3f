"""The device's side of its authorisation (RFC 8628): how it begins, and how it gets its tokens in the end."""

from typing import Final

from api.core.actor import ALL_SCOPES
from api.core.errors import Kind
from api.core.runtime import Runtime
from api.core.sealing import digest
from api.devices import crud
from api.devices.codes import FORM, new_device_code, new_user_code, shown
from api.devices.crud import Polled
from api.devices.schemas import LIFETIME, DeviceIssued
from api.throttle.service import Throttle
from api.tokens.authentication import Client
from api.tokens.keys import Keys
from api.tokens.refusals import KNOWN_SCOPES, InvalidGrant, InvalidScope, OAuthError
from api.tokens.schemas import TokenIssued
from api.tokens.sessions import begin_session
from api.users import crud as users

ATTEMPTS: Final = 5


class AuthorizationPending(OAuthError):
    """Nobody has decided yet."""

    kind = Kind.CREDENTIALS
    code = "authorization-pending"
    title = "Nobody has decided about this device yet"
    error = "authorization_pending"


class SlowDown(OAuthError):
    """The device asks too often."""

    kind = Kind.CREDENTIALS
    code = "slow-down"
    title = "The device asks too often"
    error = "slow_down"


class AccessDenied(OAuthError):
    """Somebody has refused the device."""

    kind = Kind.CREDENTIALS
    code = "access-denied"
    title = "The device was refused"
    default_hint = "was that a mistake? begin again"
    error = "access_denied"


class ExpiredToken(OAuthError):
    """Nobody has decided in time."""

    kind = Kind.CREDENTIALS
    code = "expired-token"
    title = "The device's time is over"
    error = "expired_token"


class DeviceGrant:
    """Gives a device its codes, and later its tokens; in transactions of its own, as every grant."""

    def __init__(self, runtime: Runtime, keys: Keys) -> None:
        self._runtime = runtime
        self._transaction = runtime.transaction
        self._settings = runtime.settings
        self._keys = keys

    async def start(self, *, scope: str | None, client: Client) -> DeviceIssued:
        """Return the codes of a device that begins to wait.

        Raises:
            InvalidScope: It asks for something that is no scope.
            TooManyAttempts: Too many of its network have begun.
        """
        asked = (scope or "").split()
        if not ALL_SCOPES.issuperset(asked):
            # Whoever decides about the device is to see scopes, and no sentence of somebody's.
            raise InvalidScope(hint=KNOWN_SCOPES)
        # Each is a row, which takes no credentials.
        await Throttle(self._runtime, client.address).take_device()
        device_code = new_device_code()
        device = None
        for _ in range(ATTEMPTS):
            async with self._transaction() as session:
                await crud.clean(session)
                device = await crud.add(
                    session,
                    lifetime=LIFETIME,
                    digest=digest(device_code),
                    user_code=new_user_code(),
                    scope=" ".join(sorted(set(asked))),
                    user_agent=client.user_agent,
                    address=client.address,
                )
            if device is not None:
                break
        assert device is not None  # noqa: S101 - of 25 billion codes, five in a row were taken
        uri = f"{self._settings.public_url}/device"
        code = shown(device.user_code)
        return DeviceIssued(
            device_code=device_code,
            user_code=code,
            verification_uri=uri,
            verification_uri_complete=f"{uri}?user_code={code}",
            expires_in=LIFETIME,
            interval=device.interval,
        )

    async def by_device_code(self, device_code: str, *, client: Client) -> TokenIssued:
        """Return the tokens of a device that somebody has let in; once.

        Raises:
            InvalidGrant: There is no such device, it has its tokens, or its user is deactivated.
            AuthorizationPending: Nobody has decided yet.
            SlowDown: Nor would it help to ask so often.
            AccessDenied: Somebody has refused it.
            ExpiredToken: Nobody has decided in time.
            InvalidScope: Its user holds none of the scopes.
        """
        if not FORM.fullmatch(device_code):
            raise InvalidGrant
        # What cannot be signed must not be used up.
        self._keys.require_signing()
        # That the device asked is noted although it is refused; and one that asked for too much is done.
        async with self._transaction(commit_on=(OAuthError,)) as session:
            # The user before the device, as everywhere: two who lock in two orders wait for each other.
            user_id = await crud.approved_by(session, digest(device_code))
            user = None if user_id is None else await users.by_id(session, user_id, lock=True)
            polled = await crud.poll(session, digest(device_code))
            device = polled.device if polled is not None and ready(polled) else None
            if device is not None and user_id is None:
                # Let in since we looked; the device asks again.
                raise AuthorizationPending
            if device is not None and user is not None and user.is_active:
                await crud.remove(session, device.id)
                return await begin_session(
                    session,
                    user,
                    scope=device.scope,
                    client=client,
                    keys=self._keys,
                    settings=self._settings,
                    label="device",
                    device=str(device.id),
                )
            raise refusal(polled)


def ready(polled: Polled) -> bool:
    """Tell whether the device may have its tokens."""
    return bool(polled.device.approved) and not polled.expired


def refusal(polled: Polled | None) -> OAuthError:
    """Return why the device does not get its tokens."""
    if polled is None or ready(polled):
        return InvalidGrant()
    if polled.device.approved is False:
        return AccessDenied()
    if polled.expired:
        return ExpiredToken(hint="begin again")
    if polled.too_soon:
        return SlowDown(hint="wait five seconds longer from now on")
    return AuthorizationPending()
