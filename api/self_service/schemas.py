"""What goes in and out where accounts are made and opened by a link in a mail."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.core.text import Line
from api.users.schemas import Body, Email, FullName, Password, RoleName

LinkToken = Annotated[
    Line,
    StringConstraints(min_length=1, max_length=200),
    Field(description="What follows the # in the link."),
]


class AddressGiven(Body):
    """The address of whoever wants something, and shows nothing."""

    email: Email


class RegistrationComplete(Body):
    """What makes an account of a registration, or of an invitation."""

    token: LinkToken
    password: Password
    full_name: Annotated[FullName | None, Field(description="Left out: as the invitation says it.")] = None


class PasswordReset(Body):
    """A new password, from whoever has the link that was sent to its owner."""

    token: LinkToken
    password: Password


class EmailConfirm(Body):
    """The proof that somebody reads what is sent to an address."""

    token: LinkToken


class EmailChange(Body):
    """The address that its owner wants to have, who knows their password."""

    email: Email
    current_password: Password


class Accepted(BaseModel):
    """The one answer to whoever shows nothing, whoever has an account."""

    model_config = ConfigDict(extra="forbid")

    detail: Annotated[str, Field(description="The same words, whatever the address.")] = (
        "If there is something to send to this address, it is on its way."
    )


class InvitationCreate(Body):
    """Who is invited, and what they will have."""

    email: Email
    full_name: FullName = ""
    roles: Annotated[
        list[RoleName],
        Field(default_factory=list, max_length=50, description="Roles that the account gets when it is made."),
    ]


class InvitationRead(BaseModel):
    """An invitation that is on its way."""

    model_config = ConfigDict(extra="forbid")

    email: str
    full_name: str
    roles: list[str]
