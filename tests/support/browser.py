"""A headless Chromium that knows no other host than this one, driven over the DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx2
from websockets.sync.client import ClientConnection, connect

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM: Final = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS: Final = (
    "--headless",
    # Refused to root, whom CI often is; the pages are our own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--remote-debugging-port=0",
    "--window-size=1280,1000",
)


class Page:
    """One tab: what it was told, and everything that it reported."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = count(1)
        self._events: list[dict[str, Any]] = []
        for domain in ("Log", "Network", "Page", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Carry out a command of the protocol."""
        sent = next(self._ids)
        self._connection.send(json.dumps({"id": sent, "method": method, "params": params}))
        while True:
            message: dict[str, Any] = json.loads(self._connection.recv(timeout=30))
            if message.get("id") == sent:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._events.append(message)

    def events(self, *methods: str) -> list[dict[str, Any]]:
        """Return what events of these kinds said, so far."""
        return [event["params"] for event in self._events if event["method"] in methods]

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 30) -> Any:
        """Return the value of an expression as soon as it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{expression} did not come; the page:\n{self.evaluate('document.body.innerText')}"
                )
            time.sleep(0.05)
        return value

    def click(self, selector: str) -> None:
        """Click an element, once it is there and may be clicked."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.wait_for(f"{found} && !{found}.disabled")
        self.evaluate(f"{found}.click()")

    def fill(self, selector: str, text: str) -> None:
        """Type into a field, as a keyboard does: the page's own handlers see it."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.wait_for(found + " && true")
        self.evaluate(f"{found}.focus(), {found}.select()")
        self.send("Input.insertText", text=text)
        self.wait_for(f"{found}.value === {json.dumps(text)}")

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))


class Chromium:
    """A running browser: every tab of it is of a profile of its own."""

    def __init__(self, port: str) -> None:
        self._port = port
        with httpx2.Client(trust_env=False) as client:
            version = client.get(f"http://127.0.0.1:{port}/json/version").raise_for_status().json()
        self._address: str = version["webSocketDebuggerUrl"]

    @contextmanager
    def tab(self) -> Iterator[Page]:
        """Hold an empty tab that shares nothing with another."""
        with connected(self._address) as browser:
            context = command(browser, "Target.createBrowserContext")["browserContextId"]
            target = command(browser, "Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
            with connected(f"ws://127.0.0.1:{self._port}/devtools/page/{target}") as connection:
                yield Page(connection)
            command(browser, "Target.disposeBrowserContext", browserContextId=context)


def connected(address: str) -> ClientConnection:
    """Return a connection for the protocol: a page's source, or a picture of it, is a long message."""
    return connect(address, proxy=None, max_size=None)


def command(connection: ClientConnection, method: str, **params: Any) -> dict[str, Any]:
    """Carry out a command where nothing else is reported."""
    connection.send(json.dumps({"id": 1, "method": method, "params": params}))
    message: dict[str, Any] = json.loads(connection.recv(timeout=30))
    assert "error" not in message, f"{method}: {message['error']}"
    result: dict[str, Any] = message["result"]
    return result


@contextmanager
def running(profile: Path, seconds: float = 60) -> Iterator[Chromium]:
    """Hold a new Chromium, with a new profile."""
    assert CHROMIUM is not None
    port = profile / "DevToolsActivePort"
    line = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + seconds
            while not (port.exists() and "\n" in port.read_text()):
                assert process.poll() is None, "Chromium ended"
                assert time.monotonic() < deadline, "Chromium did not start"
                time.sleep(0.02)
            yield Chromium(port.read_text().splitlines()[0])
        finally:
            process.terminate()
