"""Pages for people, each a single file: its style and script stand in it, and its policy lets nothing else run."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

from fastapi.responses import HTMLResponse

HERE: Final = Path(__file__).parent


# What pages have in common, by what stands in a page where it goes.
PARTS: Final = {
    "/* page.css */": "page.css",
    "/* page.js */": "page.js",
    "<!-- login.html -->": "login.html",
    "<!-- second.html -->": "second.html",
}


class Page:
    """A page, read once, with the parts that pages have in common.

    Args:
        path: The HTML, with the marks of PARTS where they go.
    """

    def __init__(self, path: Path) -> None:
        html = path.read_text(encoding="utf-8")
        for mark, name in PARTS.items():
            html = html.replace(mark, (HERE / name).read_text(encoding="utf-8"))
        self._html = html
        self._headers = {
            "Content-Security-Policy": policy(html),
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }

    def response(self) -> HTMLResponse:
        """Return the answer to whoever asks for it."""
        return HTMLResponse(self._html, headers=self._headers)


def policy(html: str) -> str:
    """Return a content security policy under which the page's own script and style run, and nothing else."""
    hashes = {
        tag: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for tag, text in re.findall(r"<(script|style)>(.*?)</\1>", html, re.DOTALL)
    }
    return (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    )
