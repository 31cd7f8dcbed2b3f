"""What goes in and out about second factors."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api.core.text import Name, Text
from api.users.schemas import Body, Password

Otp = Annotated[
    Text, StringConstraints(max_length=20), Field(description="The six digits of now.", examples=["123456"])
]


class FactorEnroll(Body):
    """An app that is to make one-time passwords, or a passkey."""

    name: Annotated[Name, Field(description="What it is called in lists.", examples=["phone"])] = ""
    current_password: Password


class TotpEnrolled(BaseModel):
    """What the app needs, shown this once; nothing is asked of it before it is confirmed."""

    model_config = ConfigDict(extra="forbid")

    id: UUID
    secret: Annotated[str, Field(description="To be typed into the app (base 32).")]
    uri: Annotated[str, Field(description="The same, as apps take it (`otpauth:`).")]
    qr_code: Annotated[str, Field(description="The URI as a QR code: an SVG element, to be shown in a page.")]


class PasskeyEnrolled(BaseModel):
    """What a browser makes a passkey with; nothing is asked of it before it is confirmed."""

    model_config = ConfigDict(extra="forbid")

    id: UUID
    options: Annotated[dict[str, Any], Field(description="`PublicKeyCredentialCreationOptionsJSON` (WebAuthn).")]


class PasskeyOptions(BaseModel):
    """What a browser asks a passkey with."""

    model_config = ConfigDict(extra="forbid")

    options: Annotated[dict[str, Any], Field(description="`PublicKeyCredentialRequestOptionsJSON` (WebAuthn).")]


class FactorConfirm(Body):
    """The proof that a factor works: one of these."""

    otp: Annotated[Otp | None, Field(description="What the app shows now.")] = None
    credential: Annotated[
        dict[str, Any] | None, Field(description="What `credential.toJSON()` gives in a browser, for a passkey.")
    ] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.otp is None) == (self.credential is None):
            raise ValueError("send either otp or credential")
        return self


class OwnPassword(Body):
    """The proof that it is not only somebody with an open session."""

    current_password: Password


class RecoveryCodes(BaseModel):
    """Codes to be kept on paper, each good once, shown this once."""

    model_config = ConfigDict(extra="forbid")

    recovery_codes: Annotated[
        list[str], Field(description="Empty where a factor was added and there are some already: those stay good.")
    ]


class FactorRead(BaseModel):
    """A second factor, as both doors show it; never its secret."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")

    id: UUID
    kind: str
    name: str
    confirmed_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None


class Factors(BaseModel):
    """Somebody's second factors, and how many recovery codes they have left."""

    model_config = ConfigDict(extra="forbid")

    user_id: UUID
    user: str
    factors: list[FactorRead]
    recovery_codes: Annotated[int, Field(description="How many are left.")]
