"""The pages to which links in mails lead, in a browser: from the first click to the account."""

import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from api.users.models import User
from tests.browser.test_docs import asked, complaints
from tests.support.browser import CHROMIUM, Page
from tests.support.mail import LINK, text_of
from tests.support.processes import Apictl
from tests.support.server import Server, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page is not looked at")
ADA = "ada@example.com"
PROBLEM = "document.querySelector('#problem').innerText"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mail"


@pytest.fixture
def server(apictl: Apictl, environment: dict[str, str], superuser: User, folder: Path) -> Iterator[Server]:
    own = environment | {"APICTL_SMTP_URL": f"file:{folder}", "APICTL_WORK_IN_SERVE": "true"}
    with serving("serve", environment=own, start=apictl.start) as started:
        yield started


def next_mail(folder: Path, seconds: float = 20) -> tuple[str, str]:
    """Wait for the mail; return its subject and the link in it."""
    deadline = time.monotonic() + seconds
    while not (found := [*folder.glob("*.eml")]):
        assert time.monotonic() < deadline, "no mail came"
        time.sleep(0.02)
    (path,) = found
    message = message_from_bytes(path.read_bytes(), policy=policy.SMTP)
    assert isinstance(message, EmailMessage)
    path.unlink()
    link = LINK.search(text_of(message))
    assert link is not None
    return message["Subject"], link[0]


def open_page(page: Page, url: str) -> None:
    page.send("Page.navigate", url="about:blank")
    page.send("Page.navigate", url=url)
    page.wait_for("document.readyState === 'complete' && document.querySelector('.step:not([hidden])') && true")


def done(page: Page) -> str:
    page.wait_for("!document.querySelector('#done').hidden")
    said: str = page.evaluate("document.querySelector('#done').innerText")
    return said


async def test_from_nobody_to_a_new_password(
    tab: Page, server: Server, folder: Path, tmp_path: Path, apictl: Apictl, environment: dict[str, str]
) -> None:
    open_page(tab, f"{server.url}/register")
    tab.fill("#email", ADA)
    tab.screenshot(tmp_path / "register.png")
    tab.click("#begin .main")
    assert done(tab) == "If there is something to send to this address, it is on its way."
    subject, link = next_mail(folder)
    assert subject == "Finish your registration"
    open_page(tab, link)
    # The secret stands in the address no longer than it takes to read it.
    assert tab.evaluate("location.href") == link.partition("#")[0]
    tab.fill("#password", "password")
    tab.click("#choose .main")
    assert "at least 15 characters" in tab.wait_for(PROBLEM)
    tab.fill("#name", "<b>Ada</b>")
    tab.fill("#password", "five other unrelated words")
    tab.screenshot(tmp_path / "choose.png")
    tab.click("#choose .main")
    assert done(tab).startswith("ada@example.com has an account now")
    open_page(tab, link)
    tab.fill("#password", "five other unrelated words")
    tab.click("#choose .main")
    assert "The link is not good, or no longer" in tab.wait_for(PROBLEM)
    open_page(tab, f"{server.url}/reset-password")
    tab.fill("#email", ADA)
    tab.click("#begin .main")
    done(tab)
    open_page(tab, next_mail(folder)[1])
    tab.fill("#password", "seven more unrelated words")
    tab.click("#choose .main")
    assert done(tab).startswith("The password of ada@example.com is changed")
    own = environment | {"APICTL_SMTP_URL": f"file:{folder}"}
    assert (await apictl("verify-email", "root@example.com", environment=own)).code == 0
    subject, link = next_mail(folder)
    assert subject == "Confirm your address"
    open_page(tab, link)
    tab.click("#choose .main")
    assert done(tab).startswith("root@example.com is confirmed")
    # Nothing went elsewhere, and nothing of a link to anywhere.
    assert not [url for url in asked(tab) if "apictl_link_" in url.partition("#")[0]]
    refused = [entry for entry in complaints(tab) if "422" not in str(entry) and "400" not in str(entry)]
    assert refused == []
