"""What reads what strangers wrote: each is given bytes, and may refuse them in its own way, and in no other."""

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import jwt
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request

from api.api_keys.schemas import ApiKeyCreate
from api.api_keys.secret import ApiKeySecret
from api.bulk.reading import NewUser, Reader, Row
from api.config import Settings
from api.core.connecting import redact, to_dsn
from api.core.dependencies import get_if_match, prefers_dry_run
from api.core.errors import ApictlError
from api.core.foreign_hashes import canonical
from api.core.hosts import Hosts
from api.core.pagination import Cursor
from api.core.proxies import address
from api.devices.codes import typed
from api.env_file import read
from api.idempotency.service import checked_key
from api.mail.links import mail_id
from api.signing_keys.jwk import SigningKey
from api.state.schemas import State
from api.throttle.buckets import network
from api.tokens.dependencies import get_basic_client
from api.tokens.keys import Keys, UnknownKey
from api.tokens.secret import RefreshToken
from api.urls import is_server_url
from api.users.schemas import UserCreate, canonical_email
from cli.documents import Loaded
from cli.documents import read as read_document

KID: Final = UUID(int=7)
KEYS: Final = Keys(bytes(32), issuer="http://localhost:8000")
KEYS.fill(
    [SigningKey(str(KID), 1, "HS256", datetime(2026, 1, 1, tzinfo=UTC), bytes(32), bytes(32), None)],
    now=datetime.now(UTC),
    at=0.0,
)
# The same in every process: an input that was found can be tried again.
CLAIMS: Final = {
    **dict.fromkeys(("iss", "aud"), KEYS.issuer),
    **dict.fromkeys(("sub", "sid"), str(KID)),
    "client_id": "",
    "jti": "0",
    "iat": 1767225600,
    "exp": 4102444800,
}
HEADERS: Final = {"kid": str(KID), "typ": "at+jwt"}
TOKEN: Final = jwt.encode(CLAIMS, bytes(32), algorithm="HS256", headers=HEADERS)
REFRESH: Final = RefreshToken(KID, 3).encode(KEYS.refresh)
HOSTS: Final = Hosts("https://accounts.example.com", ["*.example.org"])
# A file in memory, which is what settings are read from.
SETTINGS: Final = Path(f"/dev/shm/apictl-fuzz-{os.getpid()}.env")  # noqa: S108 - of this process alone


def verify(token: str) -> None:
    """Read an access token; what is accepted is the one that was made here."""
    try:
        claims = KEYS.verify(token)
    except (ApictlError, UnknownKey):
        return
    assert claims.user_id == KID
    assert token == TOKEN


def bearer(data: bytes) -> None:
    """A token that somebody changed, or made up."""
    text = data.decode("latin-1")
    verify(text)
    head, claims, mac = TOKEN.split(".")
    for made in (f"{text}.{claims}.{mac}", f"{head}.{text}.{mac}", f"{head}.{claims}.{text}"):
        verify(made)


def signed(data: bytes) -> None:
    """Claims of any shape, under a signature that is right."""
    try:
        claims = json.loads(data)
    except (ValueError, RecursionError):
        return
    claims = CLAIMS | (claims if isinstance(claims, dict) else {"sub": claims})
    try:
        token = jwt.encode(claims, bytes(32), algorithm="HS256", headers=HEADERS)
    except (TypeError, ValueError):
        return
    try:
        found = KEYS.verify(token)
    except (ApictlError, UnknownKey):
        return
    assert isinstance(found.user_id, UUID)


def secrets(data: bytes) -> None:
    """Refresh tokens, API keys, codes, and idempotency keys."""
    text = data.decode("utf-8", "surrogateescape")
    for made in (text, f"apictl_rt_{text}", f"apictl_key_{text}"):
        found = RefreshToken.decode(made, KEYS.refresh)
        assert found is None or made == REFRESH
        key = ApiKeySecret.parse(made)
        assert key is None or key.text == made
    typed(text)
    mail_id(text)
    refused(lambda: checked_key(text))


def cursor(data: bytes) -> None:
    """Where a list goes on."""
    text = data.decode("utf-8", "surrogateescape")
    for sort in ("created_at", "-email"):
        refused(partial(Cursor.decode, text, sort=sort))


def headers(data: bytes) -> None:
    """Headers that ours read by themselves: Authorization, Host, If-Match, Prefer, X-Forwarded-For."""
    scope = {"type": "http", "headers": [(b"authorization", b"Basic " + data), (b"prefer", data)], "state": {}}
    request = Request(scope)
    prefers_dry_run(request)
    refused(lambda: asyncio.run(get_basic_client(request)))
    refused(lambda: asyncio.run(get_if_match(data.decode("latin-1"))))
    QueryParams(data.decode("latin-1"))
    HOSTS.refusal(data)
    network(str(address(data.decode("latin-1"))))


def settings(data: bytes) -> None:
    """A file of settings, and the URLs in it."""
    SETTINGS.write_bytes(data)
    refused(lambda: read(SETTINGS))
    text = data.decode("utf-8", "surrogateescape")
    is_server_url(text)
    for url in (text, f"postgresql://{text}", f"postgresql://a:secret@{text}/x"):
        try:
            made = Settings(database_url=url, issuer=f"https://{text}")
        except ValidationError:
            try:
                made = Settings(database_url=url)
            except ValidationError:
                continue
        assert made.database_url is not None
        shown = made.database_url.get_secret_value()
        try:
            to_dsn(shown)
        except ValueError:
            # As `connect` knows.
            continue
        assert ":secret@" not in redact(shown)


def email(data: bytes) -> None:
    """Addresses: one form each, however they are written."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = canonical_email(text)
    except ValueError:
        return
    assert canonical_email(found) == found
    assert found.isascii()
    assert found == found.lower()


def password_hashes(data: bytes) -> None:
    """Hashes that other systems made."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = canonical(text)
    except ValueError:
        return
    assert canonical(found) == found


def files_of_users(data: bytes) -> None:
    """Files of users, in pieces of any size: the same rows come of them."""
    said = []
    for size in (len(data) or 1, 7):
        reader = Reader(None)
        rows: list[Row] = []
        end = ""
        try:
            for start in range(0, len(data), size):
                rows += reader.rows(data[start : start + size])
            rows += reader.rows(b"", last=True)
        except ApictlError as error:
            end = error.code
        said.append(([row if isinstance(row, NewUser) else row.line for row in rows], end))
    assert said[0] == said[1]


def states(data: bytes) -> None:
    """States: YAML, JSON, and what they say."""
    text = data.decode("utf-8", "replace")
    for name in ("state.yaml", "state.json"):
        try:
            found = read_document(text, name, Loaded())
            if isinstance(found, dict):
                State.model_validate(found)
        except (ApictlError, ValidationError):
            continue


def bodies(data: bytes) -> None:
    """JSON bodies."""
    for schema in (UserCreate, ApiKeyCreate, State):
        valid(schema, data)


def valid(schema: type[BaseModel], data: bytes) -> None:
    """Validate a body; what is accepted can be written, and read again."""
    try:
        found = schema.model_validate_json(data)
    except ValidationError:
        return
    found.model_dump_json()


def refused(work: Callable[[], Any]) -> None:
    """Do something that may refuse what it is given in the one way that both doors render."""
    try:
        work()
    except ApictlError:
        return


# Each with what a good input looks like: without one, nothing gets far.
PARSERS: Final[dict[Callable[[bytes], None], tuple[bytes, ...]]] = {
    bearer: (TOKEN.encode(), b"eyJhbGciOiJIUzI1NiJ9", b"a.b.c"),
    signed: (b'{"exp": 9999999999, "scope": "users:read"}', b'{"sid": "x", "iat": 1e400}', b'{"aud": ["x"]}'),
    secrets: (REFRESH.encode(), ApiKeySecret.new(KID).text.encode(), b"BCDF-GHJK"),
    cursor: (
        Cursor("created_at", datetime(2026, 1, 1, tzinfo=UTC), KID).encode().encode(),
        Cursor("-email", "a@b.co", KID).encode().encode(),
    ),
    headers: (
        b"accounts.example.com:443",
        b"[::1]:8000",
        b"YWRhOnNlY3JldA==",
        b'"3"',
        b"dry-run; respond-async",
        b"a=1&b=%ff",
    ),
    settings: (b"APICTL_LOG_LEVEL=debug\n", b"postgresql://a:b@[::1]:5432,h2/n?target_session_attrs=any", b"h:1"),
    email: (b"Ada@Example.COM", "ada@m\u00fcller.example".encode(), b"a@xn--mller-kva.example"),
    password_hashes: (
        b"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g",
        b"pbkdf2_sha256$600000$salt$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=",
        b"$2b$12$abcdefghijklmnopqrstuuO5b1qWUxT5TDOmQpiBmmZ1xY3pPcd7m",
        b"$P$B12345678abcdefghijklmnopqrstuv",
    ),
    files_of_users: (
        b'email,full_name,roles\na@b.co,"A ""B""",x y\n',
        b'{"email": "a@b.co", "is_active": false}\n{"email": "c@d.co"}\n',
    ),
    states: (
        b"owner: x\nroles:\n- {name: r, scopes: ['users:read']}\npeople:\n- email: a@b.co\n  roles: [r]\n",
        b'{"owner": "x", "people": [{"email": "a@b.co"}]}',
    ),
    bodies: (b'{"email": "a@b.co", "password": "x"}', b'{"user": "a@b.co", "name": "x", "networks": ["::1"]}'),
}
