"""The pager: for people only, for what is longer than their screen."""

import re
from pathlib import Path

import asyncpg
import pytest

from tests.support.processes import Apictl
from tests.support.terminal import terminal


@pytest.fixture
async def many(database: asyncpg.Connection) -> None:
    """More users than a screen has lines, of whom a table is more than a pipe holds."""
    await database.execute(
        "INSERT INTO users (id, email, full_name) "
        "SELECT gen_random_uuid(), 'u' || n || '@example.com', repeat('x', 190) FROM generate_series(1, 1000) n"
    )


@pytest.fixture
def own(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment with a pager of ours, which says that it was asked, and under which name of a terminal."""
    pager = tmp_path / "pager"
    pager.write_text('#!/bin/sh\necho "paged on $TERM, LESS=$LESS"\nif [ "$1" = all ]; then exec cat; fi\n')
    pager.chmod(0o755)
    return environment | {"PAGER": f"'{pager}' all", "COLUMNS": "300", "TERM": "xterm-256color"}


def test_what_is_longer_than_the_screen_is_paged(apictl: Apictl, own: dict[str, str], many: None) -> None:
    with terminal("list-users", "--limit", "50", environment=own, start=apictl.start) as seen:
        assert seen.end() == 0
    assert "paged on xterm-256color, LESS=FRX" in seen.screen
    assert seen.screen.count("@example.com") == 50
    assert "\x1b[" in seen.screen
    with terminal("list-users", "--limit", "50", "--no-color", environment=own, start=apictl.start) as seen:
        assert seen.end() == 0
    assert "paged on xterm-256color" in seen.screen
    assert "\x1b" not in seen.screen


def test_a_pager_that_is_closed_early_is_no_failure(apictl: Apictl, own: dict[str, str], many: None) -> None:
    closing = own | {"PAGER": own["PAGER"].removesuffix(" all")}
    with terminal("list-users", "--all", environment=closing, start=apictl.start) as seen:
        assert seen.end() == 0
    assert "paged on" in seen.screen
    assert not re.search("error|Traceback|@example.com", seen.screen)


@pytest.mark.parametrize(
    ("line", "more"),
    [
        (["--limit", "5"], {}),
        (["--limit", "50", "--no-pager"], {}),
        (["--limit", "50", "-o", "json"], {}),
        (["--limit", "50"], {"PAGER": ""}),
        (["--limit", "50"], {"PAGER": "no-such-pager"}),
        (["--limit", "50"], {"PAGER": "'"}),
        (["--limit", "50"], {"LINES": "60"}),
        (["--limit", "50"], {"TERM": "dumb"}),
    ],
)
def test_what_is_not_paged(
    apictl: Apictl, own: dict[str, str], many: None, line: list[str], more: dict[str, str]
) -> None:
    with terminal("list-users", *line, environment=own | more, start=apictl.start) as seen:
        assert seen.end() == 0
    assert "paged on" not in seen.screen
    assert seen.screen.count("@example.com") == int(line[1])


def test_one_object_is_paged_but_not_what_was_done(apictl: Apictl, own: dict[str, str], many: None) -> None:
    """Whoever has changed something, perhaps as a step of many, is not kept waiting for a key."""
    for line, is_paged in ((["show-user"], True), (["activate-user"], False)):
        with terminal(*line, "u1@example.com", environment=own | {"LINES": "5"}, start=apictl.start) as seen:
            assert seen.end() == 0
        assert ("paged on" in seen.screen, "u1@example.com" in seen.screen) == (is_paged, True)


async def test_a_pipe_is_not_paged(apictl: Apictl, own: dict[str, str], many: None) -> None:
    ended = await apictl("list-users", "-o", "table", "-q", environment=own)
    assert (ended.code, "paged on" in ended.out, ended.out.count("@example.com")) == (0, False, 50)
