"""One mailbox, one account: every spelling of an address has one canonical form, or is refused."""

import sys
import unicodedata

import asyncpg
import httpx2
import pytest
from email_validator import SPECIAL_USE_DOMAIN_NAMES, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from api.users.schemas import PLAIN_EMAIL, canonical_email

SAME = [
    ("ada@example.com", "ada@example.com"),
    ("ADA@EXAMPLE.COM", "ada@example.com"),
    ("  ada@example.com\t", "ada@example.com"),
    ("ada@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.com", "ada@example.com"),
    ("ada@EXAMPLE。com", "ada@example.com"),
    ("ada@bücher.example", "ada@xn--bcher-kva.example"),
    ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
    ("ada@bu\u0308cher.example", "ada@xn--bcher-kva.example"),
    ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
    # IDNA 2008: not the same domain as strasse.example, which somebody else may own.
    ("ada@straße.example", "ada@xn--strae-oqa.example"),
    ("ada+tag@example.com", "ada+tag@example.com"),
]
REFUSED = [
    "",
    "ada",
    "@example.com",
    "ada@",
    "ada@example",
    "ada@@example.com",
    "a b@example.com",
    "ada@exam ple.com",
    # Each of these case-folds, or is taken by a mail server, to somebody's ASCII address.
    "m\u0131ke@example.com",
    "mi\u212ae@example.com",
    "\uff4dike@example.com",
    "stra\u00dfe@example.com",
    "\u0430da@example.com",
    "e\u0301va@example.com",
    "ada\x00@example.com",
    "ada@exam\x00ple.com",
    "\ud800ada@example.com",
    "ada@\ud800.com",
    "ada\n@example.com",
    "ada@[127.0.0.1]",
    "ada@xn--.example",
    "ada@" + "a" * 64 + ".com",
    "a" * 65 + "@example.com",
    "ada@" + ".".join(["a" * 60] * 5) + ".com",
    '"ada smith"@example.com',
    # In a mail's header, this is another's address.
    "=?utf-8?q?victim=40example.com=3e?=@example.com",
]


async def test_what_is_stored_is_the_one_form(admin: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    """Row 19: and whoever asks by another spelling finds it."""
    for typed, meant in SAME:
        await database.execute("DELETE FROM users WHERE email = $1", meant)
        assert (await admin.post("/v1/users", json={"email": typed})).json()["email"] == meant
        assert await database.fetchval("SELECT count(*) FROM users WHERE email = $1", meant) == 1
        again = await admin.post("/v1/users", json={"email": meant})
        assert (again.status_code, again.json()["code"]) == (409, "email-taken")


def look_alikes() -> list[str]:
    """Return every character that some mapping (case folding, NFKC, lower, upper) turns into a letter or digit."""
    return [
        character
        for character in map(chr, range(0x80, sys.maxunicode + 1))
        if not unicodedata.category(character).startswith("C")
        and any(
            len(mapped) == 1 and mapped.isascii() and mapped.isalnum()
            for mapped in (
                unicodedata.normalize("NFKC", character),
                character.casefold(),
                character.lower(),
                character.upper(),
                unicodedata.normalize("NFKD", character)[:1],
            )
        )
    ]


def test_no_character_that_maps_to_ascii_makes_a_second_account() -> None:
    """Row 19: in front of the @ they are refused; in a domain they are the ASCII domain, or another one, or refused."""
    found = look_alikes()
    assert len(found) > 1000
    for character in found:
        with pytest.raises(ValueError, match="ASCII"):
            canonical_email(f"m{character}ke@example.com")
        try:
            address = canonical_email(f"ada@ex{character}mple.com")
        except ValueError:
            continue
        assert address.isascii()
        assert address == address.lower()
        assert canonical_email(address) == address


LABELS = st.one_of(
    st.text("aZ0-", min_size=1, max_size=4), st.integers(60, 66).map("a".__mul__), st.sampled_from(["xn", "xn--a"])
)
ENDS = st.one_of(st.sampled_from(["com", "c", "c1", "-c", "xn--p1ai", *SPECIAL_USE_DOMAIN_NAMES]), LABELS)


@given(
    st.one_of(st.text("aZ0.+-_'\"@ é", max_size=5), st.integers(62, 66).map("a".__mul__)),
    st.lists(LABELS, max_size=5).map(".".join),
    ENDS,
)
@example("a", "b.test", "local")
@example("a" * 64, "b" * 63, "com")
def test_what_is_taken_for_plain_is_what_email_validator_makes_of_it(local: str, domain: str, end: str) -> None:
    address = f"{local}@{domain}.{end}"
    if len(address) <= 254 and PLAIN_EMAIL.fullmatch(address):
        parts = validate_email(address, check_deliverability=False, allow_smtputf8=False, strict=True)
        assert address.lower() == f"{parts.local_part}@{parts.ascii_domain}".lower()


@pytest.mark.parametrize(("spelling", "canonical"), SAME)
def test_spellings_have_one_form(spelling: str, canonical: str) -> None:
    assert canonical_email(spelling) == canonical
    assert canonical_email(canonical) == canonical


@pytest.mark.parametrize("spelling", REFUSED)
def test_look_alikes_and_nonsense_are_refused(spelling: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        canonical_email(spelling)
    assert str(refusal.value).isprintable()
