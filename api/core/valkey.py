"""A Valkey (or Redis) that all processes share: scripts run in it, and its failures are those of the error table."""

import asyncio
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from api.config import Settings
from api.core.errors import ApictlError, BadSettings, Kind

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX: Final = b"apictl:"


class ValkeyUnreachable(ApictlError):
    """The Valkey that guesses are counted in does not answer: nobody is let guess uncounted."""

    kind = Kind.UNAVAILABLE
    code = "valkey-unreachable"
    title = "Guesses cannot be counted, so that none is looked at"
    default_retry_after = 1
    default_hint = "check that it runs, and APICTL_THROTTLE_URL"


class Valkey:
    """One server, by its URL; connects at the first script."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = url
        # Without a password, wherever that stands in the URL: with an @ behind the host, what is what is not certain.
        parts = urlsplit(url)
        is_certain = "@" not in parts.path + parts.query + parts.fragment
        self._where = f" at {parts.netloc.rpartition('@')[2]}" if is_certain else ""
        self._settings = settings
        self._client: Redis | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the one that the settings name; None if they name none.

        Raises:
            BadSettings: Nothing here can speak to it.
        """
        if settings.throttle_url is None:
            return None
        if importlib.util.find_spec("redis") is None:
            raise BadSettings("APICTL_THROTTLE_URL needs the package redis", hint="pip install 'apictl[redis]'")
        url = settings.throttle_url.get_secret_value()
        # It knows one of the two names that the protocol has.
        return cls(f"redis{url.removeprefix('valkey')}" if url.startswith("valkey") else url, settings)

    async def run(self, script: str, keys: Sequence[bytes], arguments: Sequence[int]) -> Any:
        """Run a script, which nobody comes between, and return what it does.

        Raises:
            ValkeyUnreachable: It does not answer, or not in time, or has no room.
            BadSettings: Its URL cannot be read.
        """
        # Not every command needs it, and it takes long.
        from redis.exceptions import RedisError  # noqa: PLC0415

        try:
            async with asyncio.timeout(self._settings.statement_timeout):
                return await self._connected().eval(script, len(keys), *(PREFIX + key for key in keys), *arguments)
        except (RedisError, OSError) as error:
            # Of its class only: its words can have the URL's password.
            raise ValkeyUnreachable(cause=f"{type(error).__name__}{self._where}") from None
        except (TypeError, ValueError):
            # What stands in its query.
            raise BadSettings("APICTL_THROTTLE_URL cannot be read", hint="redis://:PASSWORD@HOST:PORT/NUMBER") from None

    def _connected(self) -> "Redis":
        from redis.asyncio import Redis  # noqa: PLC0415 - as above

        if self._client is None:
            self._client = Redis.from_url(self._url, socket_connect_timeout=self._settings.connect_timeout)
        return self._client

    async def close(self) -> None:
        """Let its connections go."""
        if self._client is not None:
            await self._client.aclose()
