"""Hashes of other systems: they are checked as those check them, and nothing malformed or dear is let in."""

import subprocess
import sys
from typing import Any

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.core import derivations, hashes
from api.core.foreign_hashes import canonical, from_firebase, from_keycloak, parse
from tests.conftest import PASSWORD
from tests.support.cases import THOROUGH, cases

LONG = "forty-two battery staples " * 4
SIGNER_KEY = "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
FIREBASE: dict[str, Any] = {
    "password_hash": "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==",
    "salt": "42xEC+ixf3L2lw==",
    "signer_key": SIGNER_KEY,
    "salt_separator": "Bw==",
    "rounds": 8,
    "mem_cost": 14,
}
KEYCLOAK_ARGON2 = {
    "type": "password",
    "secretData": '{"value":"BuViHNDGmCq80fvpty/QoggTI8NSt0CuNDGgeoa5f5A=","salt":"RJ0aLMQ2qKbZuROs7qQhcA==",'
    '"additionalParameters":{}}',
    "credentialData": '{"hashIterations":5,"algorithm":"argon2","additionalParameters":{"hashLength":["32"],'
    '"memory":["7168"],"type":["id"],"version":["1.3"],"parallelism":["1"]}}',
}


def test_no_wrong_password_costs_less_than_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system's cheap hash would tell, by the time of a login, that there is such an account."""
    stored = "$P$9IQRaTwmfeRo7ud9Fh4E2PdI0S3r.L0"
    seen: list[str] = []
    matches = derivations.Argon2.matches

    def noted(self: derivations.Argon2, password: str) -> bool:
        seen.append(self.text)
        return matches(self, password)

    monkeypatch.setattr(derivations.Argon2, "matches", noted)
    cheap = "$argon2id$v=19$m=8,t=2,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43
    assert not hashes.check("wrong", stored).ok
    assert seen == [hashes.DUMMY_HASH]
    del seen[:]
    assert not hashes.check("wrong", cheap).ok
    assert seen == [cheap, hashes.DUMMY_HASH]
    del seen[:]
    assert hashes.check("test12345", stored).ok
    assert seen == []


def keycloak(algorithm: str, iterations: int, value: str, salt: str) -> dict[str, Any]:
    """Return a password as an export of a realm has it, here with objects where Keycloak has JSON within JSON."""
    data = {"algorithm": algorithm, "hashIterations": iterations, "additionalParameters": {}}
    return {"type": "password", "secretData": {"value": value, "salt": salt}, "credentialData": data}


# What is stored is the third, where it is not what came.
KNOWN: dict[str, tuple[str, str, str | None]] = {
    # Of the tests of crypt_blowfish.
    "bcrypt-2a": ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", None),
    "bcrypt-2b": ("U*U", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", None),
    "bcrypt-2y": ("U*U", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", None),
    # Of the tests of the reference implementation of Argon2; the third is of before it had a version.
    "argon2id": (
        "password",
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        None,
    ),
    "argon2i": (
        "password",
        "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
        None,
    ),
    "argon2i-without-version": (
        "password",
        "$argon2i$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
        "$argon2i$v=16$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
    ),
    # Made by hash-wasm 4.
    "argon2d": (
        PASSWORD,
        "$argon2d$v=19$m=256,t=3,p=2$MDEyMzQ1Njc4OWFiY2RlZg$Ld0dEld426/7p3qC+Ct4IH4/5lC68u0uPPPr5TAzUC0",
        None,
    ),
    # RFC 6070, and of passlib's tests.
    "pbkdf2-sha1": ("password", "$pbkdf2$4096$c2FsdA$SwB5AbdlSJq.rUnZJvch0GWkKcE", None),
    "pbkdf2-sha1-by-name": (
        "password",
        "$pbkdf2-sha1$4096$c2FsdA==$SwB5AbdlSJq+rUnZJvch0GWkKcE=",
        "$pbkdf2$4096$c2FsdA$SwB5AbdlSJq.rUnZJvch0GWkKcE",
    ),
    "pbkdf2-sha256": (
        "password",
        "$pbkdf2-sha256$1212$4vjV83LKPjQzk31VI4E0Vw$hsYF68OiOUPdDZ1Fg.fJPeq1h/gXXY7acBp9/6c.tmQ",
        None,
    ),
    "pbkdf2-sha512": (
        "password",
        (
            "$pbkdf2-sha512$1212$RHY0Fr3IDMSVO/RSZyb5ow"
            "$eNLfBK.eVozomMr.1gYa17k9B7KIK25NOEshvhrSX.esqY3s.FvWZViXz4KoLlQI.BzY/YTNJOiKc5gBYFYGww"
        ),
        None,
    ),
    # Of passlib's documentation, and RFC 7914.
    "scrypt": (
        "password",
        "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        None,
    ),
    "scrypt-64": (
        "pleaseletmein",
        (
            "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU"
            "$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw"
        ),
        None,
    ),
    # Made by Django 5.2, with less work than it asks for.
    "django-pbkdf2-sha256": (
        PASSWORD,
        "pbkdf2_sha256$1500$S358gfP9jMEG2W8WhjsfYP$09woia8qP/1GaXLfxP0fy9NG6x9iAlpC7bjl1o9xGwg=",
        "$pbkdf2-sha256$1500$UzM1OGdmUDlqTUVHMlc4V2hqc2ZZUA$09woia8qP/1GaXLfxP0fy9NG6x9iAlpC7bjl1o9xGwg",
    ),
    "django-pbkdf2-sha1": (
        PASSWORD,
        "pbkdf2_sha1$1500$JXhb3sP1muCC9TlEHVWBv0$Ky5ZhBdfmYT9deLNFXDkl1C8sl8=",
        "$pbkdf2$1500$SlhoYjNzUDFtdUNDOVRsRUhWV0J2MA$Ky5ZhBdfmYT9deLNFXDkl1C8sl8",
    ),
    "django-argon2": (
        PASSWORD,
        (
            "argon2$argon2id$v=19$m=1024,t=2,p=2$djRQbDlTazRYM053MFd2SVEwYmM1Ug"
            "$eOJc7N0QQ1M/Oqxcg/6sOZ8E+DO1vrRhn1xPIYHq6fs"
        ),
        "$argon2id$v=19$m=1024,t=2,p=2$djRQbDlTazRYM053MFd2SVEwYmM1Ug$eOJc7N0QQ1M/Oqxcg/6sOZ8E+DO1vrRhn1xPIYHq6fs",
    ),
    "django-bcrypt": (
        PASSWORD,
        "bcrypt$$2b$05$xojsdCQLKrakJgFRe53TLO0DwBNlAzhDJ7Fa98R8dbosHampkHk6G",
        "$2b$05$xojsdCQLKrakJgFRe53TLO0DwBNlAzhDJ7Fa98R8dbosHampkHk6G",
    ),
    "django-bcrypt-sha256": (
        PASSWORD,
        "bcrypt_sha256$$2b$05$69yW8gfLFWZFX12j1fIvEOWlK1C576q5VQxFsBqmFxT5Gce9d9WTK",
        None,
    ),
    "django-bcrypt-sha256-long": (
        LONG,
        "bcrypt_sha256$$2b$05$hJGwMRZV7ZoiNGZfZYecNuBJe0ibzIVCxT4M2UHh3svvd6JRUyXIC",
        None,
    ),
    "django-scrypt": (
        PASSWORD,
        (
            "scrypt$16384$CGHIcwSzUdRFIwX3frypO5$8$5"
            "$GwT7JDYH5N8Z80V3Bo6NsukvGM34x0NuPRi5r3Pvu/Duk61pDY5GkVQCdXjGfKgljh2tzZoQLKDYlvFzybEcFQ=="
        ),
        (
            "$scrypt$ln=14,r=8,p=5$Q0dISWN3U3pVZFJGSXdYM2ZyeXBPNQ"
            "$GwT7JDYH5N8Z80V3Bo6NsukvGM34x0NuPRi5r3Pvu/Duk61pDY5GkVQCdXjGfKgljh2tzZoQLKDYlvFzybEcFQ"
        ),
    ),
    "django-accents": (
        "crème brûlée à la carte",
        "pbkdf2_sha256$1500$UmTxClY6KXFAy5sGdzYH9o$vOGeC7gY1u9+8xFIxLpt55rXZ2bB0nhs4EZEax7v7jo=",
        "$pbkdf2-sha256$1500$VW1UeENsWTZLWEZBeTVzR2R6WUg5bw$vOGeC7gY1u9.8xFIxLpt55rXZ2bB0nhs4EZEax7v7jo",
    ),
    # hashcat's examples of its modes 400 and 35500.
    "wordpress-phpass": ("hashcat", "$P$984478476IagS59wHZvyQMArzfx58u.", None),
    "wordpress": ("hashcat", "$wp$2y$10$lzlQrRRhLSjz486bA9CKHuZRPoKz4uviT251Sq/r5OzKUBbrXwnQW", None),
    # Made by PHP: somebody else's vector, of what WordPress hashes when its forms are sent a quote.
    "wordpress-quote": ("O'Brien123!", "$wp$2y$12$pIZ38i.tj5zPQCDAd2VEG.JiCUXo.PdElX0/c/ldr80nPl2YplsUG", None),
    # Of exports of realms whose passwords are public.
    "keycloak-argon2": (
        "iceberg",
        from_keycloak(KEYCLOAK_ARGON2),
        "$argon2id$v=19$m=7168,t=5,p=1$RJ0aLMQ2qKbZuROs7qQhcA$BuViHNDGmCq80fvpty/QoggTI8NSt0CuNDGgeoa5f5A",
    ),
    "keycloak-sha512": (
        "password",
        from_keycloak(
            keycloak(
                "pbkdf2-sha512",
                210000,
                "BF0QtrMc1PHAO+Jt25hRnqRfzUzvZfe6IHCthMpYla87MHMXwFRasOaplx40+X+tBSPMk2wj7rHMwsBIr2GAgg==",
                "yqXuX2HRvcBRSDbTUdiPQw==",
            )
        ),
        (
            "$pbkdf2-sha512$210000$yqXuX2HRvcBRSDbTUdiPQw"
            "$BF0QtrMc1PHAO.Jt25hRnqRfzUzvZfe6IHCthMpYla87MHMXwFRasOaplx40.X.tBSPMk2wj7rHMwsBIr2GAgg"
        ),
    ),
    "keycloak-sha256": (
        "user1",
        from_keycloak(
            keycloak(
                "pbkdf2-sha256",
                27500,
                "9qur72LAICdhFeb2SpkJt2jbOYaxJ44g9T+E7bmJXxI=",
                "AGHjXoWftkFxnk/dcZRNnA==",
            )
        ),
        "$pbkdf2-sha256$27500$AGHjXoWftkFxnk/dcZRNnA$9qur72LAICdhFeb2SpkJt2jbOYaxJ44g9T.E7bmJXxI",
    ),
    # Made by Node: of 64 bytes, as Keycloak's first ones are.
    "keycloak-sha1": (
        PASSWORD,
        from_keycloak(
            keycloak(
                "pbkdf2",
                1000,
                "wmIXv0mv7iouqkc9CKjRvCX21ppxie1kqc0WMgmDj0o+97VK8UW9s9Quxr8AjR3iqH5sGSrNnbDLUPu+/v6crg==",
                "MDEyMzQ1Njc4OWFiY2RlZg==",
            )
        ),
        (
            "$pbkdf2$1000$MDEyMzQ1Njc4OWFiY2RlZg"
            "$wmIXv0mv7iouqkc9CKjRvCX21ppxie1kqc0WMgmDj0o.97VK8UW9s9Quxr8AjR3iqH5sGSrNnbDLUPu./v6crg"
        ),
    ),
    # Of the README of firebase/scrypt.
    "firebase": (
        "user1password",
        from_firebase(**FIREBASE),
        (
            "$firebase-scrypt$ln=14,r=8$42xEC+ixf3L2lw$Bw"
            "$jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA"
            "$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ"
        ),
    ),
}

# One of each form, for next to nothing each: for tests that check thousands.
SALT, DIGEST = "MDEyMzQ1Njc4OWFiY2RlZg", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
BCRYPT = "$2b$04$G1RB2EjtUfOKWtvMuNjSC.uUDNSheSJ6Qr38FXj/88CqGnHDnBvs2"
FORMS = [
    f"$argon2id$v=19$m=8,t=1,p=1${SALT}${DIGEST}",
    f"argon2$argon2i$v=19$m=8,t=1,p=1${SALT}${DIGEST}",
    BCRYPT,
    f"bcrypt${BCRYPT}",
    f"bcrypt_sha256${BCRYPT}",
    f"$wp{BCRYPT}",
    f"$pbkdf2-sha256$9${SALT}${DIGEST}",
    f"pbkdf2_sha256$9$salt${DIGEST}=",
    f"$scrypt$ln=1,r=8,p=1${SALT}${DIGEST}",
    f"scrypt$2$salt$8$1${DIGEST}=",
    "$P$5ZDzPE45C.e3bTcH1xJ3Ik0sHWJkpu1",
    f"$firebase-scrypt$ln=1,r=8${SALT}$Bw${DIGEST}${DIGEST}",
]


# Each is computed a dozen times: what takes a third of a second is CI's second half's.
DEAR = {"wordpress-quote", "django-scrypt"}


@pytest.mark.parametrize("name", [name for name in KNOWN if THOROUGH or name not in DEAR])
def test_what_another_system_made_is_checked_and_replaced_at_the_first_login(name: str) -> None:
    password, came, stored = KNOWN[name]
    assert canonical(came) == (stored or came)
    assert canonical(canonical(came)) == canonical(came)
    for text in {came, canonical(came)}:
        verified = hashes.check(password, text)
        assert verified.ok
        assert verified.rehash is not None
        assert hashes.check(password, verified.rehash) == hashes.Verified(ok=True)
        for wrong in (password + "x", password[:-1], password.swapcase(), ""):
            assert hashes.check(wrong, text) == hashes.Verified(ok=False)


@pytest.mark.usefixtures("dear_passwords")
def test_ours_is_current_and_nobody_s_is_nobody_s() -> None:
    made = hashes.make(PASSWORD)
    assert hashes.check(PASSWORD, made) == hashes.Verified(ok=True)
    assert canonical(made) == made
    assert canonical(hashes.DUMMY_HASH) == hashes.DUMMY_HASH
    assert hashes.check(PASSWORD, None) == hashes.Verified(ok=False)


def test_nobody_logs_in_where_there_is_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even who has the password of the hash that is checked in its place."""
    monkeypatch.setattr(hashes, "DUMMY_HASH", hashes.make(PASSWORD))
    assert hashes.check(PASSWORD, None) == hashes.Verified(ok=False)


@pytest.mark.parametrize(
    "change", [{"memory": 9}, {"passes": 2}, {"lanes": 1, "kind": "i"}, {"version": 16}, {"digest": bytes(16)}]
)
def test_argon2_with_other_parameters_than_ours_is_out_of_date(change: dict[str, Any]) -> None:
    from argon2.low_level import Type, hash_secret  # noqa: PLC0415

    parameters: dict[str, Any] = {
        "memory": 8,
        "passes": 1,
        "lanes": 1,
        "kind": "id",
        "version": 19,
        "digest": bytes(32),
    } | change
    made = hash_secret(
        PASSWORD.encode(),
        b"0123456789abcdef",
        time_cost=parameters["passes"],
        memory_cost=parameters["memory"],
        parallelism=parameters["lanes"],
        hash_len=len(parameters["digest"]),
        type=Type[parameters["kind"].upper()],
        version=parameters["version"],
    ).decode()
    verified = hashes.check(PASSWORD, made)
    assert verified.ok
    assert hashes.check(PASSWORD, verified.rehash) == hashes.Verified(ok=True)


def test_bcrypt_has_72_bytes_and_who_makes_a_digest_first_has_more() -> None:
    plain = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert hashes.check("x" * 72, plain).ok
    for longer in ("x" * 73, "é" * 37):
        assert not hashes.check(longer, plain).ok
        assert not parse(plain).matches(longer)
    password, came, _ = KNOWN["django-bcrypt-sha256-long"]
    assert hashes.check(password, came).ok
    assert not hashes.check(password[:72], came).ok


@pytest.mark.parametrize("name", ["wordpress-phpass", "wordpress"])
def test_wordpress_trims(name: str) -> None:
    password, came, _ = KNOWN[name]
    assert hashes.check(f" \t{password}\r\n", came).ok
    assert not hashes.check(f"\u00a0{password}", came).ok


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no hash that we can check"),
        ("correct horse battery staple", "no hash that we can check"),
        ("{SSHA}2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", "no hash that we can check"),
        ("$1$5O3B2PnM$mwUWJZRMpjJOUmVbKmFpk0", "no hash that we can check"),
        ("$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "no hash that we can check"),
        ("md5$salt$5f4dcc3b5aa765d61d8327deb882cf99", "no hash that we can check"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "without a salt"),
        ("5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8", "without a salt"),
        ("5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8", "without a salt"),
        ("b" * 128, "without a salt"),
        ("!j4LDfFCksDjhj5ds4o7nkieCKtVEJ6u8RdRjyDoW", "without a password"),
        ("$P$" + "x" * 2000, "more than 1000 characters"),
        ("$argon2id$v=19$m=8,t=1,p=1$" + SALT, "does not go on"),
        (f"$argon2id$v=19$m=8,t=1,p=1,data=eA${SALT}${DIGEST}", "does not go on"),
        (f"$argon2id$v=18$m=8,t=1,p=1${SALT}${DIGEST}", "no version 18"),
        (f"$argon2id$v=19$m=8,t=1,p=1$MDEy${DIGEST}", "the salt's length"),
        (f"$argon2id$v=19$m=8,t=1,p=1${SALT}$MDEy", "the digest's length"),
        (f"$argon2id$v=19$m=8,t=1,p=1${SALT}${DIGEST}\n", "does not go on"),
        (BCRYPT[:-1], "does not go on"),
        (BCRYPT.replace(".u", "/u"), "does not go on"),
        (f"bcrypt${BCRYPT}=", "does not go on"),
        (f"$pbkdf2-sha256$9${SALT}${DIGEST[:-3]}", "cut off"),
        (f"$pbkdf2-sha256$9${SALT}${DIGEST[:41]}", "cut off"),
        (f"$pbkdf2-sha256$9$${DIGEST}", "does not go on"),
        (f"$pbkdf2-sha256$٩${SALT}${DIGEST}", "does not go on"),
        (f"pbkdf2_sha256$9${'s' * 600}${DIGEST}", "the salt's length"),
        (f"scrypt$3$salt$8$1${DIGEST}", "power of two"),
        (f"scrypt$0$salt$8$1${DIGEST}", "power of two"),
        (f"$scrypt$ln=16,r=1,p=1${SALT}${DIGEST}", "scrypt's N"),
        (f"$scrypt$ln=9999,r=1024,p=1${SALT}${DIGEST}", "between 1 and 23"),
        (f"$pbkdf2-sha256$10000000000${SALT}${DIGEST}", "does not go on"),
        (f"$firebase-scrypt$ln=1,r=8${SALT}$Bw$MDEy${DIGEST}", "signer key"),
    ],
)
def test_what_is_no_hash_is_refused_and_nobody_s(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        canonical(text)
    # A refusal is shown, and a hash is a secret.
    assert DIGEST not in str(refused.value)
    assert hashes.check("correct horse battery staple", text) == hashes.Verified(ok=False)


@pytest.mark.parametrize(
    ("form", "affordable", "dear"),
    [
        (f"$argon2id$v=19$m={{}},t=1,p=1${SALT}${DIGEST}", 256 * 1024, 256 * 1024 + 1),
        (f"$argon2id$v=19$m={{}},t=1,p=8${SALT}${DIGEST}", 64, 63),
        (f"$argon2id$v=19$m=8,t={{}},p=1${SALT}${DIGEST}", 100, 101),
        (f"$argon2id$v=19$m=262144,t={{}},p=1${SALT}${DIGEST}", 16, 17),
        (f"$argon2d$v=19$m=8192,t=1,p={{}}${SALT}${DIGEST}", 64, 65),
        (f"argon2$argon2i$v=19$m=8,t={{}},p=1${SALT}${DIGEST}", 1, 0),
        (f"{BCRYPT[:4]}{{}}{BCRYPT[6:]}", 16, 17),
        (f"{BCRYPT[:4]}{{}}{BCRYPT[6:]}", "04", "03"),
        (f"bcrypt_sha256${BCRYPT[:4]}{{}}{BCRYPT[6:]}", 16, 31),
        (f"$wp{BCRYPT[:4]}{{}}{BCRYPT[6:]}", 16, 17),
        (f"$pbkdf2-sha256${{}}${SALT}${DIGEST}", 5_000_000, 5_000_001),
        (f"$pbkdf2$1{{}}${SALT}${DIGEST}", 500_000, 5_000_000),
        (f"pbkdf2_sha256${{}}$salt${DIGEST}", 1, 0),
        # Two blocks of SHA-1.
        (f"$pbkdf2${{}}${SALT}${DIGEST}", 2_500_000, 2_500_001),
        (f"$scrypt$ln={{}},r=8,p=1${SALT}${DIGEST}", 18, 19),
        (f"$scrypt$ln=18,r=8,p={{}}${SALT}${DIGEST}", 1, 2),
        (f"$scrypt$ln=1,r={{}},p=1${SALT}${DIGEST}", 1024, 1025),
        (f"$scrypt$ln=1,r=1,p={{}}${SALT}${DIGEST}", 1024, 0),
        (f"scrypt${{}}$salt$8$1${DIGEST}", 2**18, 2**19),
        ("$P${}ZDzPE45C.e3bTcH1xJ3Ik0sHWJkpu1", "H", "I"),
        ("$P${}ZDzPE45C.e3bTcH1xJ3Ik0sHWJkpu1", "5", "4"),
        (f"$firebase-scrypt$ln={{}},r=8${SALT}$Bw${DIGEST}${DIGEST}", 18, 19),
    ],
)
def test_what_would_hold_up_everybody_s_login_is_refused(
    monkeypatch: pytest.MonkeyPatch, form: str, affordable: object, dear: object
) -> None:
    assert canonical(form.format(affordable))
    with pytest.raises(ValueError, match="must be between"):
        canonical(form.format(dear))
    # Also where somebody wrote it into the table.
    for kind in ("Argon2", "Bcrypt", "Pbkdf2", "Scrypt", "FirebaseScrypt", "Phpass"):
        monkeypatch.setattr(getattr(derivations, kind), "matches", lambda *_: pytest.fail("it was computed"))
    assert hashes.check(PASSWORD, form.format(dear)) == hashes.Verified(ok=False)


PIECES = st.sampled_from([*"$=,/.+-_!059AZaz \n\x00\u0661\ud800", "$$", "=="])


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Return a hash of any form in which something was changed, left out, put in, or cut off."""
    text = draw(st.sampled_from(FORMS))
    at = draw(st.integers(0, len(text)))
    width = draw(st.integers(0, 2) | st.just(len(text)))
    return text[:at] + draw(st.just("") | PIECES) + text[at + width :]


# So that every one of them can be checked, whatever its cost has become.
LOW = {
    "ARGON2_KIBIBYTES": 99,
    "ARGON2_PASSES": 9,
    "BCRYPT_ROUNDS": 5,
    "PBKDF2_ITERATIONS": 9999,
    "SCRYPT_KIBIBYTES": 99,
    "PHPASS_ROUNDS": 8,
}


@settings(max_examples=cases(5000), deadline=None, database=None)
@given(mutated())
def test_what_somebody_spoilt_is_refused_or_stored_as_it_reads(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in LOW.items():
            patch.setattr(derivations, name, limit)
        assert hashes.check(PASSWORD, text) == hashes.Verified(ok=False)
        try:
            stored = canonical(text)
        except ValueError:
            return
        assert canonical(stored) == stored
        assert parse(stored) == parse(text)
        assert hashes.check(PASSWORD, stored) == hashes.Verified(ok=False)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"type": "otp"}, "another type"),
        ({"secretData": None}, "no secretData"),
        ({"secretData": "[]"}, "no secretData"),
        ({"secretData": "{"}, "no secretData"),
        ({"secretData": "[" * 100_000}, "no secretData"),
        ({"secretData": "{}"}, "no base64"),
        ({"secretData": {"value": "MDEy!", "salt": "MDEy"}}, "no base64"),
        ({"secretData": {"value": "MDEyM", "salt": "MDEy"}}, "cut off"),
        ({"credentialData": None}, "no credentialData"),
        ({"credentialData": {"algorithm": "argon2"}}, "hashIterations"),
        ({"credentialData": {"algorithm": "argon2", "hashIterations": True}}, "hashIterations"),
        ({"credentialData": {"algorithm": "argon2", "hashIterations": -5}}, "hashIterations"),
        ({"credentialData": {"algorithm": "argon2", "hashIterations": 5}}, "no additionalParameters"),
        ({"credentialData": {"algorithm": "argon2", "hashIterations": 5, "additionalParameters": {}}}, "no type"),
        (
            {
                "credentialData": {
                    "algorithm": "argon2",
                    "hashIterations": 5,
                    "additionalParameters": {"type": ["x"], "version": ["1.3"], "memory": ["8"], "parallelism": ["1"]},
                }
            },
            "no type",
        ),
        (
            {
                "credentialData": {
                    "algorithm": "argon2",
                    "hashIterations": 5,
                    "additionalParameters": {"type": ["id"], "version": ["1.3"], "memory": [], "parallelism": ["1"]},
                }
            },
            "its memory",
        ),
        ({"credentialData": {"algorithm": "bcrypt", "hashIterations": 10}}, "none of pbkdf2"),
        ({"credentialData": {"algorithm": ["argon2"], "hashIterations": 10}}, "none of pbkdf2"),
        ({"credentialData": {"algorithm": "pbkdf2-sha256", "hashIterations": 5_000_001}}, "must be between"),
    ],
)
def test_a_credential_of_keycloak_s_that_is_none_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        from_keycloak(KEYCLOAK_ARGON2 | change)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"salt": ""}, "no base64"),
        ({"password_hash": "x"}, "cut off"),
        ({"password_hash": "MDEy"}, "cut off"),
        ({"signer_key": "MDEy"}, "signer key"),
        ({"salt_separator": "?"}, "no base64"),
        ({"rounds": 0}, "must be between"),
        ({"rounds": "x"}, "its rounds"),
        ({"mem_cost": 21}, "must be between"),
    ],
)
def test_a_hash_of_firebase_s_that_is_none_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        from_firebase(**FIREBASE | change)


def test_firebase_may_have_no_separator_and_writes_base64_for_addresses_too() -> None:
    assert canonical(from_firebase(**FIREBASE | {"salt_separator": ""})).count("$$") == 1
    other = {
        name: value.translate(str.maketrans("+/", "-_")) for name, value in FIREBASE.items() if isinstance(value, str)
    }
    assert from_firebase(**FIREBASE | other) == from_firebase(**FIREBASE)


def test_who_only_reads_hashes_waits_for_no_library() -> None:
    code = "import sys, api.core.foreign_hashes; print(*{'argon2', 'cryptography', 'passlib'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "\n"
