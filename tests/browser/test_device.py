"""The page on which a person lets a device act for them, in a browser."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pyotp
import pytest

from api.users.models import User
from tests.browser.test_docs import asked, complaints
from tests.conftest import PASSWORD
from tests.support.browser import CHROMIUM, Page
from tests.support.processes import Apictl
from tests.support.server import Server, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page is not looked at")
GRANT = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code"


@pytest.fixture
def server(apictl: Apictl, environment: dict[str, str], superuser: User) -> Iterator[Server]:
    with serving("serve", environment=environment, start=apictl.start) as started:
        yield started


@pytest.fixture
def begun(server: Server) -> dict[str, Any]:
    """A device that waits."""
    headers = {"User-Agent": "<b>a terminal</b>", "Content-Type": "application/x-www-form-urlencoded"}
    request = urllib.request.Request(f"{server.url}/v1/auth/device", b"scope=users:read", headers)  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - ours
        found: dict[str, Any] = json.load(answer)
    return found


@pytest.fixture
def page(server: Server, begun: dict[str, Any], tab: Page) -> Page:
    tab.send("Page.navigate", url=f"{server.url}/device?user_code={begun['user_code']}")
    tab.wait_for("document.readyState === 'complete' && document.querySelector('#code')?.value")
    return tab


def poll(server: Server, begun: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    data = f"grant_type={GRANT}&device_code={begun['device_code']}".encode()
    request = urllib.request.Request(f"{server.url}/v1/auth/token", data)  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - ours
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def log_in(page: Page, password: str) -> None:
    page.fill("#email", "root@example.com")
    page.fill("#password", password)
    page.click("#ask button")


@pytest.mark.parametrize(("button", "error"), [("#allow", None), ("#deny", "access_denied")])
def test_deciding(
    page: Page, server: Server, begun: dict[str, Any], button: str, error: str | None, tmp_path: Path
) -> None:
    assert page.evaluate("document.querySelector('#code').value") == begun["user_code"]
    page.screenshot(tmp_path / "ask.png")
    log_in(page, PASSWORD)
    page.wait_for("!document.querySelector('#decide').hidden")
    shown = page.evaluate("[...document.querySelectorAll('#decide dd')].map(it => it.innerText)")
    assert shown == [begun["user_code"], "<b>a terminal</b>", "127.0.0.1", "users:read"]
    page.screenshot(tmp_path / "decide.png")
    page.click(button)
    page.wait_for("!document.querySelector('#done').hidden")
    page.screenshot(tmp_path / "done.png")
    status, said = poll(server, begun)
    assert (status, said.get("error")) == ((200, None) if error is None else (400, error))
    assert complaints(page) == []
    assert {url for url in asked(page) if not url.startswith(f"{server.url}/")} == set()


def test_what_is_wrong_is_said(page: Page, server: Server) -> None:
    log_in(page, "not my password")
    assert "credentials are not right" in page.wait_for("document.querySelector('#problem').innerText")
    page.fill("#code", "BBBB-BBBB")
    log_in(page, PASSWORD)
    said = page.wait_for(
        "document.querySelector('#problem').innerText.includes('code') && document.querySelector('#problem').innerText"
    )
    assert "No device waits with this code" in said


def test_the_page_runs_nothing_but_its_own(page: Page, server: Server) -> None:
    with urllib.request.urlopen(f"{server.url}/device", timeout=30) as answer:  # noqa: S310 - ours
        policy = answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.broken = true\">')")
    script = "const it = document.createElement('script'); it.text = 'window.broken = true'; document.body.append(it)"
    page.evaluate(script)
    assert page.evaluate("window.broken === undefined")


async def test_a_second_factor_is_asked_for(
    page: Page, server: Server, begun: dict[str, Any], apictl: Apictl, environment: dict[str, str], tmp_path: Path
) -> None:
    issued = (await apictl("create-token", "root@example.com", "-o", "json", environment=environment)).json()
    headers = {"Authorization": f"Bearer {issued['access_token']}"}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as client:
        made = (await client.post("/v1/users/me/factors/totp", json={"current_password": PASSWORD})).json()
        totp = pyotp.TOTP(made["secret"])
        # The one before: the present one is still to be used.
        proof = {"otp": totp.at(int(time.time()) - 30)}
        assert (await client.post(f"/v1/users/me/factors/{made['id']}/confirm", json=proof)).is_success
    log_in(page, PASSWORD)
    page.wait_for("!document.querySelector('#second').hidden")
    page.screenshot(tmp_path / "second.png")
    page.fill("#otp", "not a code")
    page.click("#second button")
    page.wait_for("document.querySelector('#problem').innerText.startsWith('The second factor is not right')")
    page.fill("#otp", totp.now())
    page.click("#second button")
    page.wait_for("!document.querySelector('#decide').hidden")
    page.click("#allow")
    page.wait_for("!document.querySelector('#done').hidden")
    assert poll(server, begun)[0] == 200
