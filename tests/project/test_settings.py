"""Settings are made in few places, nothing is made at import, and `.env.example` tells them all."""

import ast
import os
import re
from pathlib import Path
from typing import Final

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from api.config import Settings, variable_name
from api.core.errors import BadSettings
from api.core.passwords import Passwords
from api.core.runtime import Runtime
from tests.project.code import ROOT, modules, sources

PLACES: Final = {
    ("alembic/env.py", "run_bare"),
    ("api/main.py", "create_app"),
    ("cli/running.py", "carry_out"),
    ("cli/offers.py", "suggested"),
}
PROCESS_WIDE: Final = (AsyncEngine, Engine, FastAPI, Passwords, Runtime, Settings)


def test_settings_are_made_in_few_places() -> None:
    found = set()
    for path, tree in sources("api", "cli", "alembic"):
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
                calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
                if any(ast.unparse(call.func) in {"Settings", "Settings.load"} for call in calls):
                    found.add((path, getattr(function, "name", "")))
    assert found - {(path, "") for path, _ in PLACES} == PLACES


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_nothing_is_made_at_import(module: object) -> None:
    assert not [name for name, value in vars(module).items() if isinstance(value, PROCESS_WIDE)]


def without_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the suite says to itself."""
    for name in [name for name in os.environ if name.startswith("APICTL_")]:
        monkeypatch.delenv(name)


def test_env_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    commented = re.findall(r"^# (\w+=.*)$", text, re.MULTILINE)
    assert [line.partition("=")[0] for line in commented] == [variable_name(name) for name in Settings.model_fields]
    # As a person would who takes every `#` away: that must be what there is without the file.
    (tmp_path / ".env").write_text("\n".join(commented))
    monkeypatch.chdir(tmp_path)
    without_ours(monkeypatch)
    assert Settings.load() == Settings()


def test_what_is_set_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over the file, also by the name that platforms give it; what is empty says nothing."""
    monkeypatch.chdir(tmp_path)
    without_ours(monkeypatch)
    (tmp_path / ".env").write_text("APICTL_DATABASE_URL=postgresql://file/x\nAPICTL_POOL_SIZE=3\n")
    for name, value in (("DATABASE_URL", "postgresql://platform/x"), ("APICTL_POOL_SIZE", "")):
        monkeypatch.setenv(name, value)
    found = Settings.load(listen_port=None, listen_host="127.0.0.2")
    assert found.database_url is not None
    assert found.database_url.get_secret_value() == "postgresql://platform/x"
    assert (found.pool_size, found.listen_port, found.listen_host) == (3, 8000, "127.0.0.2")
    monkeypatch.setenv("APICTL_DATABASE_URL", "postgresql://ours/x")
    assert "ours" in str(Settings.load().model_dump()["database_url"].get_secret_value())


@pytest.mark.parametrize(
    ("content", "problem", "hint"),
    [
        (b"apictl_pool_size=3\n", "apictl_pool_size is not a setting", "did you mean APICTL_POOL_SIZE?"),
        (b"APICTL_POL_SIZE=\n", "APICTL_POL_SIZE is not a setting", "did you mean APICTL_POOL_SIZE?"),
        (b"APICTL_POOL_SIZE=\xff\n", "is not UTF-8 text", ""),
    ],
)
def test_a_file_that_cannot_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, problem: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    without_ours(monkeypatch)
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(BadSettings) as refused:
        Settings.load()
    assert problem in refused.value.detail
    assert hint in (refused.value.hint or "")
