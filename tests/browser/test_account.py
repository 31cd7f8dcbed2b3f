"""The page on which people see to how they log in, with a passkey of the browser's own virtual authenticator."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest

from api.users.models import User
from tests.browser.test_docs import complaints
from tests.conftest import PASSWORD, SUPERUSER
from tests.support.browser import CHROMIUM, Page
from tests.support.processes import Apictl
from tests.support.server import Server, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page is not looked at")


@pytest.fixture
def server(apictl: Apictl, environment: dict[str, str], superuser: User) -> Iterator[Server]:
    # Passkeys are bound to the origin, and the origin to the port.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = environment | {"APICTL_ISSUER": f"http://127.0.0.1:{port}"}
    with serving("serve", environment=own, start=apictl.start, port=port) as started:
        yield started


@pytest.fixture
def page(server: Server, tab: Page) -> Page:
    open_page(tab, server, "localhost")
    return tab


@pytest.fixture(autouse=True)
def authenticator(page: Page) -> str:
    """One in the machine itself, as a laptop has it, which takes every finger for its owner's."""
    page.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
    }
    found: str = page.send("WebAuthn.addVirtualAuthenticator", options=options)["authenticatorId"]
    return found


def open_page(page: Page, server: Server, host: str, path: str = "/account") -> None:
    page.send("Page.navigate", url=server.url.replace("127.0.0.1", host) + path)
    page.wait_for(f"location.hostname === '{host}' && document.readyState === 'complete' && !at('ask').hidden")


def log_in(page: Page) -> None:
    page.fill("#email", SUPERUSER)
    page.fill("#password", PASSWORD)
    page.click("#ask .main")


def shown(page: Page, step: str) -> None:
    page.wait_for(f"!document.querySelector('#{step}').hidden")


def add_passkey(page: Page) -> list[str]:
    log_in(page)
    shown(page, "manage")
    page.fill("#current", PASSWORD)
    page.fill("#name", "<b>laptop</b>")
    page.click("#add-passkey")
    shown(page, "kept")
    codes: list[str] = page.evaluate("document.querySelector('#recovery').innerText").split("\n")
    page.click("#noted")
    shown(page, "manage")
    return codes


def test_a_passkey_from_its_making_to_its_end(page: Page, server: Server, tmp_path: Path) -> None:
    page.screenshot(tmp_path / "ask.png")
    assert len(add_passkey(page)) == 10
    page.screenshot(tmp_path / "manage.png")
    assert "<b>laptop</b>\nPasskey, since" in page.evaluate("document.querySelector('#factors').innerText")
    assert page.evaluate("document.querySelector('#codes').innerText") == "10 recovery codes are left."
    # The same authenticator is not asked twice.
    page.click("#add-passkey")
    page.wait_for("document.querySelector('#problem').innerText === 'This passkey is enrolled already.'")
    page.click("#leave")
    shown(page, "done")
    # Alone.
    open_page(page, server, "localhost")
    page.click("#passkey")
    shown(page, "manage")
    assert "last used" in page.evaluate("document.querySelector('#factors').innerText")
    # After a password.
    open_page(page, server, "localhost")
    log_in(page)
    shown(page, "second")
    page.screenshot(tmp_path / "second.png")
    page.click("#second-passkey")
    shown(page, "manage")
    page.fill("#current", PASSWORD)
    page.click("#factors button")
    page.wait_for("document.querySelector('#factors').innerText === ''")
    assert "nothing else is asked for" in page.evaluate("document.querySelector('#manage').innerText")
    # It is gone: the browser still has it, and the server does not know it any more.
    open_page(page, server, "localhost")
    page.click("#passkey")
    page.wait_for("document.querySelector('#problem').innerText.startsWith('The credentials are not right')")
    refused = [entry for entry in complaints(page) if "400" not in str(entry)]
    assert refused == []


def test_an_older_security_key_is_a_second_factor_only(page: Page, server: Server, authenticator: str) -> None:
    page.send("WebAuthn.removeVirtualAuthenticator", authenticatorId=authenticator)
    page.send("WebAuthn.addVirtualAuthenticator", options={"protocol": "u2f", "transport": "usb"})
    add_passkey(page)
    open_page(page, server, "localhost")
    log_in(page)
    shown(page, "second")
    page.click("#second-passkey")
    shown(page, "manage")


def test_at_another_name_it_is_said_where_passkeys_are_good(page: Page, server: Server) -> None:
    open_page(page, server, "127.0.0.1")
    log_in(page)
    shown(page, "manage")
    page.fill("#current", PASSWORD)
    page.click("#add-passkey")
    said = page.wait_for("document.querySelector('#problem').innerText")
    assert "localhost" in said


def test_an_app_and_its_recovery_codes(page: Page, server: Server, tmp_path: Path) -> None:
    log_in(page)
    shown(page, "manage")
    page.click("#add-app")
    # Nothing happens before the password is typed.
    assert page.evaluate("document.activeElement.id") == "current"
    page.fill("#current", PASSWORD)
    page.click("#add-app")
    shown(page, "app")
    page.screenshot(tmp_path / "app.png")
    assert page.evaluate("at('qr').querySelector('svg').getBoundingClientRect().width") >= 150
    assert page.evaluate("document.querySelector('#uri').href").startswith("otpauth://totp/")
    secret = page.evaluate("document.querySelector('#secret').innerText").replace(" ", "")
    page.fill("#shown", "000000")
    page.click("#app .main")
    page.wait_for("document.querySelector('#problem').innerText.startsWith('The one-time password is not right')")
    page.fill("#shown", pyotp.TOTP(secret).now())
    page.click("#app .main")
    shown(page, "kept")
    page.screenshot(tmp_path / "kept.png")
    code = page.evaluate("document.querySelector('#recovery').innerText").split("\n")[0]
    page.click("#noted")
    shown(page, "manage")
    open_page(page, server, "localhost")
    log_in(page)
    shown(page, "second")
    page.fill("#otp", code.upper())
    page.click("#second .main")
    shown(page, "manage")
    assert page.evaluate("document.querySelector('#codes').innerText") == "9 recovery codes are left."


def test_whoever_looks_at_the_page_for_long_goes_on(page: Page, server: Server) -> None:
    log_in(page)
    shown(page, "manage")
    page.evaluate("tokens.access_token = 'run.out.x'")
    page.fill("#current", PASSWORD)
    page.click("#add-app")
    shown(page, "app")
    # And when the session has ended there is an end, and no request after request.
    page.evaluate("tokens = { access_token: 'x', refresh_token: 'x' }")
    page.click("#not-now")
    page.wait_for("document.querySelector('#problem').innerText.startsWith('The credentials are not right')")


async def test_the_page_s_session_ends_with_it(
    page: Page, server: Server, apictl: Apictl, environment: dict[str, str]
) -> None:
    log_in(page)
    shown(page, "manage")
    listed = await apictl("list-tokens", "--live", "-o", "json", environment=environment)
    assert len(listed.json()["items"]) == 1, listed.out
    page.send("Page.navigate", url="about:blank")
    for _ in range(100):
        listed = await apictl("list-tokens", "--live", "-o", "json", environment=environment)
        if not listed.json()["items"]:
            break
    assert listed.json()["items"] == []
