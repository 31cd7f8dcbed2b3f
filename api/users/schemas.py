"""What goes in and out about users. One schema for each purpose: no body can set more than its purpose allows."""

import re
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.core.pagination import Limit, Page
from api.core.text import Line, Name, Text, one_line, storable

MAX_EMAIL: Final = 254
SLUG: Final = r"^[a-z][a-z0-9-]{0,62}$"
# The addresses of most people, of which email-validator would say nothing else; it takes a third of what creating a
# user does, and forty milliseconds of a command's start. What is in any way unusual is for email-validator to judge.
PLAIN_EMAIL: Final = re.compile(
    r"(?=[^@]{1,64}@)[a-z0-9_+-]+(\.[a-z0-9_+-]+)*@(?!.*--)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+"
    r"(?!(arpa|invalid|local|localhost|onion|test)$)[a-z]{2,63}",
    re.ASCII | re.IGNORECASE,
)


def canonical_email(value: str) -> str:
    """Return the one form in which this address is stored and looked up.

    Lower-case ASCII local part, and the domain in its ASCII form (IDNA 2008), so that no two spellings of one
    mailbox, and no look-alike of another, can both have an account.

    Raises:
        ValueError: It is no e-mail address, or its local part is not ASCII.
    """
    text = storable(value).strip()
    if len(text) <= MAX_EMAIL and PLAIN_EMAIL.fullmatch(text):
        return text.lower()
    if not text.rpartition("@")[0].isascii():
        # Case folding turns some of these into another person's ASCII address (CVE-2019-19844).
        raise ValueError("the part before the @ must be ASCII")
    if "/" in text:
        # An address is a part of a URL here.
        raise ValueError("it contains a /")
    if "=?" in text:
        # A mail's header would say another address (RFC 2047).
        raise ValueError("it contains =?")
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415

    try:
        parts = validate_email(text, check_deliverability=False, allow_smtputf8=False, strict=True)
        address = f"{parts.local_part}@{parts.ascii_domain}".lower()
    except (EmailNotValidError, UnicodeError) as error:
        raise ValueError(str(error).rstrip(".").lower() or "it is no e-mail address") from None
    if len(address) > MAX_EMAIL:
        raise ValueError(f"it has more than {MAX_EMAIL} characters")
    return address


Email = Annotated[
    str,
    StringConstraints(max_length=MAX_EMAIL),
    AfterValidator(canonical_email),
    Field(json_schema_extra={"format": "email"}, examples=["ada@example.com"]),
]
# Lengths are the policy's to judge, with its own error; this bounds what is read at all.
Password = Annotated[Text, Field(json_schema_extra={"format": "password"}, examples=["four unrelated words here"])]
FullName = Annotated[Name, Field(examples=["Ada Lovelace"])]


def no_other_path(ref: str) -> str:
    """Return what names a user, unless it would lead somewhere else in a path.

    Raises:
        ValueError: It would: to somebody's roles or to whoever asks.
    """
    if "/" in ref or ref == "me":
        raise ValueError("no account is called that")
    return ref


UserRef = Annotated[
    str,
    StringConstraints(min_length=1, max_length=320),
    AfterValidator(one_line),
    AfterValidator(no_other_path),
    Field(description="A user's id or e-mail address, or a service account's name.", examples=["ada@example.com"]),
]


def slug(name: str) -> str:
    """Return the name, if it is one of those that need no quotes anywhere.

    Raises:
        ValueError: It is not.
    """
    if re.fullmatch(SLUG, name) is None:
        raise ValueError("it must be lower-case letters, digits and hyphens, as web-team, at most 63")
    return name


RoleName = Annotated[str, AfterValidator(slug), Field(json_schema_extra={"pattern": SLUG})]
IfExists = Literal["fail", "skip", "update"]
Sort = Literal["created_at", "-created_at", "updated_at", "-updated_at", "email", "-email"]


class Body(BaseModel):
    """A request body: unknown fields are refused, and so is what would need converting."""

    model_config = ConfigDict(extra="forbid", strict=True)


class UserCreate(Body):
    """What an administrator gives for a new user; without a password they cannot log in yet."""

    email: Email
    full_name: FullName = ""
    password: Password | None = None


class CreateOptions(BaseModel):
    """How to create a user; a misspelt option is refused."""

    model_config = ConfigDict(extra="forbid")

    is_superuser: Annotated[bool, Field(description="Create a superuser; needs every scope.")] = False
    if_exists: Annotated[IfExists, Field(description="What to do if the address is taken.")] = "fail"


class UserUpdate(Body):
    """What an administrator may change of a user; what is left out stays."""

    email: Email | None = None
    full_name: FullName | None = None


class ProfileUpdate(Body):
    """What users may change of themselves."""

    full_name: FullName


class PasswordSet(Body):
    """A new password, set by an administrator."""

    password: Password


class PasswordChange(Body):
    """A new password, set by its owner, who knows the old one."""

    current_password: Password
    new_password: Password


class UserPath(BaseModel):
    """What names a user in a path, and on the terminal."""

    user: UserRef


class UserRead(BaseModel):
    """A user, person or service account, as both doors show it."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")

    id: UUID
    kind: Literal["person", "service"]
    email: Annotated[str | None, Field(description="A person's; null for a service account.")]
    name: Annotated[str | None, Field(description="A service account's; null for a person.")]
    full_name: str
    is_active: bool
    is_superuser: bool
    roles: list[str]
    email_verified_at: datetime | None
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None
    version: int

    @property
    def handle(self) -> str:
        """What the user is called by everybody."""
        return self.email or self.name or ""


class UserPage(Page):
    """A page of users."""

    items: list[UserRead]


class AccountQuery(BaseModel):
    """Which accounts to list, in which order, from where."""

    model_config = ConfigDict(extra="forbid")

    search: Annotated[
        Line | None, Field(max_length=200, description="Words; each must begin a word of the address or of the name.")
    ] = None
    is_active: Annotated[bool | None, Field(description="Only active, or only inactive, ones.")] = None
    role: Annotated[RoleName | None, Field(description="Only those that have this role.")] = None
    sort: str
    limit: Annotated[Limit, Field(description="Accounts a page.")] = 50
    cursor: Annotated[Line | None, Field(max_length=1000, description="`next_cursor` of the page before.")] = None


class UserQuery(AccountQuery):
    """Which people to list."""

    is_superuser: Annotated[bool | None, Field(description="Only superusers, or only others.")] = None
    sort: Annotated[Sort, Field(description="Order; a minus sign reverses it.")] = "created_at"
