"""Where settings come from: the environment, a profile or `.env`, the default; and how a person sees it."""

import csv
import io
import json
import os
from pathlib import Path

import pytest
import yaml

from api.config import Settings, variable_name
from tests.support.processes import Apictl, bare_environment, run

URL = "postgresql://ada:c4nary@db.example.com/x"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The folder of profiles."""
    folder = tmp_path / "config" / "apictl"
    folder.mkdir(parents=True)
    return folder


def profile(config: Path, name: str, text: str, mode: int = 0o600) -> None:
    """Write a profile."""
    file = config / f"{name}.env"
    file.write_text(text)
    file.chmod(mode)


async def test_each_value_and_where_it_comes_from(apictl: Apictl, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        f"# ours\n\nAPICTL_POOL_SIZE=3\nAPICTL_SECRET_KEY=a://{'c4nary' * 8}\nDATABASE_URL={URL}\n"
    )
    environment = bare_environment(APICTL_LISTEN_PORT="9000", APICTL_POOL_SIZE="")
    ended = await apictl("show-config", "--origin", "-o", "json", environment=environment)
    assert (ended.code, ended.err) == (0, "")
    assert ended.json()["next_cursor"] is None
    found = {item["variable"]: (item["value"], item["origin"]) for item in ended.json()["items"]}
    assert list(found) == [variable_name(name) for name in Settings.model_fields]
    assert found["APICTL_DATABASE_URL"] == ("postgresql://ada:***@db.example.com/x", ".env:5 (DATABASE_URL)")
    assert found["APICTL_SECRET_KEY"] == ("***", ".env:4")
    # What is empty in the environment says nothing.
    assert found["APICTL_POOL_SIZE"] == (3, ".env:3")
    assert found["APICTL_LISTEN_PORT"] == (9000, "environment")
    assert found["APICTL_LISTEN_HOST"] == ("127.0.0.1", "default")
    alias = environment | {"DATABASE_URL": URL}
    ended = await apictl("show-config", "--origin", "--fields", "origin", environment=alias)
    assert ended.out.splitlines()[0] == "environment (DATABASE_URL)"


async def test_a_file_has_no_word_of_the_environment(apictl: Apictl, tmp_path: Path) -> None:
    """A folder's `.env` may be somebody else's words, and the environment has secrets."""
    (tmp_path / ".env").write_text("APICTL_POSTGRES_BIN=/x/${CANARY}\n")
    line = ("show-config", "-o", "json")
    ended = await apictl(*line, environment=bare_environment(CANARY="c4nary"))
    assert (ended.code, "/x/${CANARY}" in ended.out, "c4nary" in ended.out) == (0, True, False), ended


async def test_settings_in_every_form(apictl: Apictl) -> None:
    environment = bare_environment(APICTL_DATABASE_URL=URL)
    forms = {
        form: (await apictl("show-config", "-o", form, environment=environment)).out
        for form in ("table", "json", "jsonl", "yaml", "csv", "ids")
    }
    items = json.loads(forms["json"])["items"]
    assert set(items[0]) == {"variable", "value"}
    assert [json.loads(line) for line in forms["jsonl"].splitlines()] == yaml.safe_load(forms["yaml"]) == items
    assert [row["variable"] for row in csv.DictReader(io.StringIO(forms["csv"]))] == forms["ids"].split()
    assert forms["table"].split()[:3] == ["VARIABLE", "VALUE", "APICTL_DATABASE_URL"]
    assert "c4nary" not in str(forms)


@pytest.mark.parametrize("in_file", [True, False])
async def test_an_unknown_setting_is_an_error_with_a_suggestion(apictl: Apictl, tmp_path: Path, in_file: bool) -> None:
    if in_file:
        (tmp_path / ".env").write_text("# ours\nAPICTL_POLSIZE=3\n")
    where = ".env, line 2, sets it" if in_file else "it is set in the environment"
    environment = bare_environment(**({} if in_file else {"APICTL_POLSIZE": "3"}))
    for line in (["show-config"], ["list-users"]):
        ended = await apictl(*line, environment=environment)
        assert (ended.code, ended.out) == (12, "")
        said = f"error: APICTL_POLSIZE is not a setting\ncause: {where}\nhint: did you mean APICTL_POOL_SIZE?\n"
        assert ended.err == said


async def test_what_is_read_from_the_environment_only(apictl: Apictl, tmp_path: Path) -> None:
    """A file that names a profile, or a password, would be silently ignored."""
    (tmp_path / ".env").write_text("APICTL_PROFILE=prod\n")
    ended = await apictl("show-config", environment=bare_environment())
    assert (ended.code, "read from the environment" in ended.err) == (12, True), ended.err


async def test_a_profile_instead_of_the_file(apictl: Apictl, environment: dict[str, str], config: Path) -> None:
    Path(".env").write_text("APICTL_POOL_SIZE=3\nAPICTL_LISTEN_PORT=9001\n")
    profile(config, "prod", f"APICTL_DATABASE_URL={environment['APICTL_DATABASE_URL']}\nAPICTL_POOL_SIZE=4\n")
    profile(config, "staging", "APICTL_POOL_SIZE=5\n")
    own = bare_environment(XDG_CONFIG_HOME=str(config.parent))
    for line, more, size in (
        (["--profile", "prod"], {}, "4"),
        ([], {"APICTL_PROFILE": "prod"}, "4"),
        (["--profile", "prod"], {"APICTL_PROFILE": "staging"}, "4"),
        (["--profile", "prod"], {"APICTL_POOL_SIZE": "6"}, "6"),
        ([], {}, "3"),
    ):
        ended = await apictl("show-config", *line, "--origin", environment=own | more)
        found = {words[0]: words[1:] for words in (row.split("\t") for row in ended.out.splitlines())}
        assert found["APICTL_POOL_SIZE"][0] == size, (line, more)
        assert (found["APICTL_LISTEN_PORT"][0] == "9001") is (size == "3")
        if size == "4":
            assert found["APICTL_POOL_SIZE"][1] == f"{config}/prod.env:2"
    # From nothing, as a person has it; in ~/.config, where nothing else is said.
    home = bare_environment(HOME=str(config.parent.parent))
    (config.parent.parent / ".config").symlink_to(config.parent)
    assert (await run("list-users", "--profile", "prod", environment=home)).code == 0
    offered = await apictl("--complete", "fish", "list-users", "--profile", "", environment=own)
    assert offered.out == "prod\nstaging\n"
    # The TAB key asks the database of the profile that was typed.
    await apictl("create-user", "ada@example.com", "--no-password", environment=environment)
    offered = await apictl("--complete", "fish", "show-user", "--profile", "prod", "a", environment=own)
    assert offered.out.startswith("ada@example.com")
    offered = await apictl("--complete", "fish", "show-user", "--profile=prod", "a", environment=own)
    assert offered.out.startswith("ada@example.com")


@pytest.mark.parametrize("name", ["nope", "../config/apictl/prod", "/etc/passwd", "prod.env"])
async def test_an_unknown_profile_names_those_that_exist(apictl: Apictl, config: Path, name: str) -> None:
    own = bare_environment(XDG_CONFIG_HOME=str(config.parent))
    profile(config, "prod", "")
    ended = await apictl("show-config", "--profile", name, environment=own)
    assert (ended.code, f"There is no profile {name}" in ended.err, "there are prod;" in ended.err) == (12, True, True)


@pytest.mark.parametrize(
    ("text", "mode", "code"),
    [
        (f"APICTL_DATABASE_URL={URL}", 0o644, 12),
        (f"DATABASE_URL={URL}", 0o604, 12),
        ("APICTL_DATABASE_URL=postgresql:///x?user=a&password=c4nary", 0o644, 12),
        (f"APICTL_SECRET_KEY={'c4nary' * 8}", 0o644, 12),
        # As container platforms mount it.
        (f"APICTL_DATABASE_URL={URL}", 0o640, 0),
        ("APICTL_DATABASE_URL=postgresql://db.example.com/x", 0o644, 0),
        ("APICTL_POOL_SIZE=3", 0o644, 0),
        ("APICTL_POOL_SIZE=3", 0o666, 12),
    ],
)
async def test_a_profile_with_a_secret_is_nobody_else_s(
    apictl: Apictl, config: Path, text: str, mode: int, code: int
) -> None:
    profile(config, "prod", text, mode)
    own = bare_environment(XDG_CONFIG_HOME=str(config.parent))
    ended = await apictl("show-config", "--profile", "prod", environment=own)
    assert (ended.code, "c4nary" in ended.out + ended.err) == (code, False), ended
    assert ("chmod" in ended.err) is (code == 12)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_cannot_be_read(apictl: Apictl, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("APICTL_POOL_SIZE=3\n")
    (tmp_path / ".env").chmod(0)
    ended = await apictl("show-config", environment=bare_environment())
    assert (ended.code, "cannot be read" in ended.err) == (12, True), ended.err


async def test_a_profile_that_is_none(apictl: Apictl, config: Path, tmp_path: Path) -> None:
    """What cannot be read would silently be no settings, and so another place to work on."""
    (config / "gone.env").symlink_to("nowhere")
    (config / "folder.env").mkdir()
    own = bare_environment(XDG_CONFIG_HOME=str(config.parent))
    for name, code, said in (
        ("gone", 12, "points to what is not there"),
        ("folder", 12, "is no file"),
        ("", 2, "--profile names none"),
    ):
        ended = await apictl("show-config", "--profile", name, environment=own)
        assert (ended.code, said in ended.err) == (code, True), ended.err
    # A virtual environment, as some call it.
    (tmp_path / ".env").mkdir()
    assert (await apictl("show-config", environment=own)).code == 0


async def test_a_value_that_cannot_work_is_told_where_it_is(apictl: Apictl, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("APICTL_POOL_SIZE=many\n")
    ended = await apictl("show-config", environment=bare_environment(APICTL_LISTEN_PORT="x"))
    said = "hint: correct APICTL_LISTEN_PORT of the environment, APICTL_POOL_SIZE of .env"
    assert (ended.code, said in ended.err) == (12, True), ended.err
