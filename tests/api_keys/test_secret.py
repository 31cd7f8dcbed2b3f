"""The format of API keys."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.api_keys.secret import FORM, PREFIX, ApiKeySecret, checksum, decode, encode
from api.core.ids import uuid7


@given(st.uuids())
@hypothesis_settings(max_examples=50, deadline=None, database=None)
def test_what_is_made_is_read_again(key_id: UUID) -> None:
    made = ApiKeySecret.new(key_id)
    assert ApiKeySecret.parse(made.text) == made
    # One word: a double click selects all of it. And what a scanner of source code looks for.
    assert made.text.replace("_", "").isalnum()
    assert FORM.fullmatch(made.text)


def test_no_two_are_alike() -> None:
    key_id = uuid7()
    made = [ApiKeySecret.new(key_id) for _ in range(100)]
    assert len({one.text for one in made}) == len({one.digest for one in made}) == 100


def test_every_slip_of_one_character_is_noticed() -> None:
    text = ApiKeySecret.new(uuid7()).text
    for position, character in enumerate(text):
        for other in "0Zz_-é":
            if other != character:
                assert ApiKeySecret.parse(text[:position] + other + text[position + 1 :]) is None
        assert ApiKeySecret.parse(text[:position] + text[position + 1 :]) is None


@pytest.mark.parametrize("text", ["", PREFIX, PREFIX + "0" * 71, " " + PREFIX, "x" * 5000, PREFIX + "\ud800" * 71])
def test_what_is_none_is_none(text: str) -> None:
    assert ApiKeySecret.parse(text) is None


def test_an_id_of_more_than_128_bits_is_none() -> None:
    body = PREFIX + "z" * 22 + "0" * 43
    assert ApiKeySecret.parse(body + checksum(body)) is None
    assert decode(encode(2**128 - 1, 22)) == 2**128 - 1
