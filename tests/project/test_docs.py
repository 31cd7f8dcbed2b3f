"""What the documentation says of the code is what the code says."""

from pathlib import Path

import pytest

from tools.docs import PLACE, ROOT, TABLES, files, readme


@pytest.mark.parametrize(("path", "wanted"), files().items(), ids=lambda value: getattr(value, "name", ""))
def test_written_from_the_code(path: Path, wanted: str) -> None:
    assert path.read_text(encoding="utf-8") == wanted, f"{path.name} is out of date: run `make docs`"


@pytest.mark.parametrize("name", ["commands", "errors"])
def test_readme_has_the_table(name: str) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert name in [place[2] for place in PLACE.finditer(page)], f"README.md lacks <!-- table: {name} -->"


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_renewed(name: str) -> None:
    old = f"before\n<!-- table: {name} -->\n| outdated |\n<!-- /table -->\nafter\n"
    new = readme(old)
    assert TABLES[name]() in new
    assert "outdated" not in new
    assert readme(new) == new
