"""Hashes of passwords that other systems made, as they write them: each is read into one form, which is stored."""

import json
import re
from base64 import b64decode
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final, Literal

from api.core.derivations import Argon2, Bcrypt, Derivation, FirebaseScrypt, Pbkdf2, Phpass, Scrypt

MAX_CHARACTERS: Final = 1000
KEYCLOAK_PBKDF2: Final[dict[object, Literal["sha1", "sha256", "sha512"]]] = {
    "pbkdf2": "sha1",
    "pbkdf2-sha256": "sha256",
    "pbkdf2-sha512": "sha512",
}
KEYCLOAK_ARGON2_KINDS: Final[dict[object, Literal["id", "i", "d"]]] = {"id": "id", "i": "i", "d": "d"}
KEYCLOAK_ARGON2_VERSIONS: Final = {"1.0": 16, "1.3": 19}

# Base64 is read in every alphabet that somebody writes it in: RFC 4648's two, and passlib's.
ALPHABET: Final = str.maketrans("-_.", "+/+")
NUMBER: Final = "([0-9]{1,10})"
BYTES: Final = "([A-Za-z0-9+/._-]+={0,2})"
# Django's salts are text.
TEXT: Final = "([!-#%-~]+)"
UNSALTED: Final = re.compile("(?:[0-9A-Fa-f]{32}){1,4}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{56}")


def canonical(stored: str) -> str:
    """Return the form in which a hash is stored that another system made.

    Raises:
        ValueError: It is none that we can check, is malformed, or would cost too much at every login.
    """
    # Most of a file's hashes differ in salt and digest alone.
    found = USUAL.fullmatch(stored)
    return parse(stored).text if found is None else stored.replace(found[1], parameters(found[1]))


@lru_cache(maxsize=64)
def parameters(text: str) -> str:
    """Return the parameters of an argon2 hash, as they are stored.

    Raises:
        ValueError: As in `canonical`.
    """
    return parse(text + SOME).text.removesuffix(SOME)


def parse(stored: str) -> Derivation:
    """Return what a hash says, in any of the forms that we know.

    Raises:
        ValueError: As in `canonical`.
    """
    if len(stored) > MAX_CHARACTERS:
        raise ValueError(f"it has more than {MAX_CHARACTERS} characters")
    for prefix, (pattern, read) in FORMS.items():
        if stored.startswith(prefix):
            found = pattern.fullmatch(stored, len(prefix))
            if found is None:
                raise ValueError(f"it begins with {prefix} and does not go on as such a hash does")
            return read(*found.groups())
    if stored.startswith("!"):
        raise ValueError("it is Django's mark of an account without a password: leave it out")
    if UNSALTED.fullmatch(stored):
        raise ValueError("it is a digest without a salt, which is no protection: let its owner choose a new password")
    raise ValueError(
        "it is no hash that we can check: there are argon2, bcrypt, pbkdf2 and scrypt, also as Django, WordPress, "
        "Keycloak and Firebase make them"
    )


def from_keycloak(credential: dict[str, Any]) -> str:
    """Return the form in which a password of Keycloak's is stored.

    Args:
        credential: One of a user's `credentials`, as a realm's export has them: with `secretData` and `credentialData`.

    Raises:
        ValueError: It is no password, or none that we can check or afford.
    """
    if credential.get("type", "password") != "password":
        raise ValueError("it is a credential of another type than password")
    secret = _object(credential, "secretData")
    parameters = _object(credential, "credentialData")
    algorithm = parameters.get("algorithm")
    salt, digest = _bytes(secret.get("salt")), _bytes(secret.get("value"))
    iterations = _number(parameters.get("hashIterations"), "hashIterations")
    if isinstance(algorithm, str) and algorithm in KEYCLOAK_PBKDF2:
        return Pbkdf2(KEYCLOAK_PBKDF2[algorithm], iterations, salt, digest).text
    if algorithm != "argon2":
        raise ValueError("its algorithm is none of pbkdf2, pbkdf2-sha256, pbkdf2-sha512 and argon2")
    # Each is a list of one there.
    more = {
        name: value[0] if isinstance(value, list) and value else value
        for name, value in _object(parameters, "additionalParameters").items()
    }
    kind, version = str(more.get("type")), str(more.get("version"))
    if kind not in KEYCLOAK_ARGON2_KINDS or version not in KEYCLOAK_ARGON2_VERSIONS:
        raise ValueError("its additionalParameters name no type or no version of argon2")
    memory, lanes = (_number(more.get(name), name) for name in ("memory", "parallelism"))
    version_number = KEYCLOAK_ARGON2_VERSIONS[version]
    return Argon2(KEYCLOAK_ARGON2_KINDS[kind], version_number, memory, iterations, lanes, salt, digest).text


def from_firebase(
    password_hash: str, salt: str, *, signer_key: str, salt_separator: str, rounds: int, mem_cost: int
) -> str:
    """Return the form in which a password of Firebase's is stored; the signer key is part of it.

    Args:
        password_hash: The user's `passwordHash`, as `firebase auth:export` writes it.
        salt: The user's `salt`.
        signer_key: From the project's password hash parameters, as the other three: `base64_signer_key`.
        salt_separator: `base64_salt_separator`.
        rounds: `rounds`, which is scrypt's r.
        mem_cost: `mem_cost`, the power of two which is scrypt's N.

    Raises:
        ValueError: One of them is malformed, or together they cost too much.
    """
    separator = _bytes(salt_separator) if salt_separator else b""
    parts = (_bytes(salt), separator, _bytes(signer_key), _bytes(password_hash))
    return FirebaseScrypt(_number(mem_cost, "mem_cost"), _number(rounds, "rounds"), *parts).text


def _argon2(kind: Literal["id", "i", "d"], version: str | None, *rest: str) -> Argon2:
    memory, passes, lanes, salt, digest = rest
    # The first version did not say which it was.
    return Argon2(kind, int(version or 16), int(memory), int(passes), int(lanes), _bytes(salt), _bytes(digest))


def _bcrypt(wrap: Literal["", "bcrypt_sha256$", "$wp"], letter: str, rest: str, rounds: str) -> Bcrypt:
    return Bcrypt(wrap, int(rounds), f"$2{letter}${rest}")


def _pbkdf2(algorithm: Literal["sha1", "sha256", "sha512"], iterations: str, salt: str, digest: str) -> Pbkdf2:
    return Pbkdf2(algorithm, int(iterations), _bytes(salt), _bytes(digest))


def _django_pbkdf2(algorithm: Literal["sha1", "sha256"], iterations: str, salt: str, digest: str) -> Pbkdf2:
    return Pbkdf2(algorithm, int(iterations), salt.encode(), _bytes(digest))


def _scrypt(log2_n: str, r: str, p: str, salt: str, digest: str) -> Scrypt:
    return Scrypt(int(log2_n), int(r), int(p), _bytes(salt), _bytes(digest))


def _django_scrypt(n: str, salt: str, r: str, p: str, digest: str) -> Scrypt:
    log2_n = int(n).bit_length() - 1
    if int(n) != 1 << max(log2_n, 0):
        raise ValueError("scrypt's N must be a power of two")
    return Scrypt(log2_n, int(r), int(p), salt.encode(), _bytes(digest))


def _firebase(log2_n: str, r: str, salt: str, separator: str, signer_key: str, digest: str) -> FirebaseScrypt:
    parts = (_bytes(salt), _bytes(separator) if separator else b"", _bytes(signer_key), _bytes(digest))
    return FirebaseScrypt(int(log2_n), int(r), *parts)


def _phpass(rest: str) -> Phpass:
    return Phpass(f"$P${rest}")


def _bytes(text: object) -> bytes:
    if not isinstance(text, str) or not re.fullmatch(BYTES, text):
        raise ValueError("its salt, its digest or a key is no base64")
    plain = text.rstrip("=").translate(ALPHABET)
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise ValueError("its base64 was cut off") from None


def _number(value: object, name: str) -> int:
    if not re.fullmatch(NUMBER, str(value)):
        raise ValueError(f"its {name} is no number that can be")
    return int(str(value))


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object of Keycloak's, which may be JSON within JSON."""
    value = parent.get(name)
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    raise ValueError(f"it has no {name}, or none that is an object")


ARGON2: Final = re.compile(rf"(?:v={NUMBER}\$)?m={NUMBER},t={NUMBER},p={NUMBER}\${BYTES}\${BYTES}")
# Of sixteen bytes and of thirty-two, without bits that mean nothing.
USUAL: Final = re.compile(
    r"(\$argon2id\$[^$]{1,20}\$[^$]{1,50}\$)[A-Za-z0-9+/]{21}[AQgw]\$[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]"
)
SOME: Final = f"{'A' * 22}${'A' * 43}"
BCRYPT: Final = re.compile(r"(([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31})")
PBKDF2: Final = re.compile(rf"{NUMBER}\${BYTES}\${BYTES}")
DJANGO_PBKDF2: Final = re.compile(rf"{NUMBER}\${TEXT}\${BYTES}")
FORMS: Final[dict[str, tuple[re.Pattern[str], Callable[..., Derivation]]]] = {
    # The first is what nearly every login reads.
    "$argon2id$": (ARGON2, partial(_argon2, "id")),
    "$argon2i$": (ARGON2, partial(_argon2, "i")),
    "$argon2d$": (ARGON2, partial(_argon2, "d")),
    "argon2$argon2id$": (ARGON2, partial(_argon2, "id")),
    "argon2$argon2i$": (ARGON2, partial(_argon2, "i")),
    "argon2$argon2d$": (ARGON2, partial(_argon2, "d")),
    **{f"$2{letter}$": (BCRYPT, partial(_bcrypt, "", letter)) for letter in "aby"},
    **{f"bcrypt$$2{letter}$": (BCRYPT, partial(_bcrypt, "", letter)) for letter in "aby"},
    **{f"bcrypt_sha256$$2{letter}$": (BCRYPT, partial(_bcrypt, "bcrypt_sha256$", letter)) for letter in "aby"},
    **{f"$wp$2{letter}$": (BCRYPT, partial(_bcrypt, "$wp", letter)) for letter in "aby"},
    "$pbkdf2$": (PBKDF2, partial(_pbkdf2, "sha1")),
    "$pbkdf2-sha1$": (PBKDF2, partial(_pbkdf2, "sha1")),
    "$pbkdf2-sha256$": (PBKDF2, partial(_pbkdf2, "sha256")),
    "$pbkdf2-sha512$": (PBKDF2, partial(_pbkdf2, "sha512")),
    "pbkdf2_sha1$": (DJANGO_PBKDF2, partial(_django_pbkdf2, "sha1")),
    "pbkdf2_sha256$": (DJANGO_PBKDF2, partial(_django_pbkdf2, "sha256")),
    "$scrypt$": (re.compile(rf"ln={NUMBER},r={NUMBER},p={NUMBER}\${BYTES}\${BYTES}"), _scrypt),
    "scrypt$": (re.compile(rf"{NUMBER}\${TEXT}\${NUMBER}\${NUMBER}\${BYTES}"), _django_scrypt),
    "$P$": (re.compile(r"([./A-Za-z0-9]{31})"), _phpass),
    "$firebase-scrypt$": (re.compile(rf"ln={NUMBER},r={NUMBER}\${BYTES}\${BYTES}?\${BYTES}\${BYTES}"), _firebase),
}
