"""The docs page, as a stranger meets it: in a browser, without the internet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.users.models import User
from tests.conftest import PASSWORD
from tests.support.browser import CHROMIUM, Page
from tests.support.cases import THOROUGH
from tests.support.processes import Apictl
from tests.support.server import serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the docs page is not looked at")

OPERATION = "#operations-users-show_me"


@pytest.fixture
def address(apictl: Apictl, environment: dict[str, str]) -> Iterator[str]:
    """The address of the real server."""
    with serving("serve", environment=environment, start=apictl.start) as server:
        assert server.get("/health/ready")[0] == 200
        yield server.url


@pytest.fixture
def page(address: str, tab: Page) -> Page:
    """A tab with the docs page in it."""
    tab.send("Page.navigate", url=f"{address}/docs")
    tab.wait_for(f"document.querySelector('{OPERATION}') && true")
    return tab


def complaints(page: Page) -> list[Any]:
    """Return what failed, and what the page wrote to its console as an error."""
    return [
        *page.events("Network.loadingFailed", "Runtime.exceptionThrown"),
        *(said for said in page.events("Network.responseReceived") if said["response"]["status"] >= 400),
        *(said for said in page.events("Runtime.consoleAPICalled") if said["type"] in {"error", "assert"}),
        *(said for said in page.events("Log.entryAdded") if said["entry"]["level"] == "error"),
    ]


def asked(page: Page) -> set[str]:
    """Return the addresses that the page asked for; pictures written in the page itself are no requests."""
    urls = {said["request"]["url"] for said in page.events("Network.requestWillBeSent")}
    return {url for url in urls if not url.startswith(("data:", "blob:"))}


def test_everything_comes_from_here(page: Page, address: str) -> None:
    shown = page.evaluate("[...document.querySelectorAll('.opblock-tag-section h3')].map(tag => tag.dataset.tag)")
    assert {"health", "tokens", "users", "migrations"} <= set(shown)
    assert page.evaluate("document.querySelectorAll('[id=operations-users-create_user]').length") == 1
    assert f"{address}/openapi.json" in asked(page)
    assert {url for url in asked(page) if not url.startswith(f"{address}/")} == set()
    assert complaints(page) == []


@pytest.mark.skipif(not THOROUGH, reason="five seconds of Swagger's page: CI's second run has them")
def test_logging_in_and_asking(page: Page, address: str, superuser: User, tmp_path: Path) -> None:
    page.click(".auth-wrapper .btn.authorize")
    page.fill("#oauth_username", superuser.handle)
    page.fill("#oauth_password", PASSWORD)
    page.screenshot(tmp_path / "authorize.png")
    page.click(".auth-btn-wrapper .btn.authorize")
    page.wait_for("[...document.querySelectorAll('.auth-btn-wrapper button')].some(it => it.innerText === 'Logout')")
    page.click(".auth-btn-wrapper .btn-done")

    page.click(f"{OPERATION} .opblock-summary-control")
    page.click(f"{OPERATION} .try-out__btn")
    page.click(f"{OPERATION} .btn.execute")
    answer = f"{OPERATION} .live-responses-table"
    status = page.wait_for(f"document.querySelector('{answer} .response .response-col_status')?.innerText")
    assert status.split()[0] == "200"
    body = json.loads(page.evaluate(f"document.querySelector('{answer} .highlight-code code').innerText"))
    assert body["email"] == superuser.email
    page.screenshot(tmp_path / "docs.png")

    assert {url for url in asked(page) if not url.startswith(f"{address}/")} == set()
    assert complaints(page) == []
