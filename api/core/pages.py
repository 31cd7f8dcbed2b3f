"""Pages for people, each a single file: its style and script stand in it, and its policy lets nothing else run."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

from fastapi.responses import HTMLResponse

from api.core.headers import PAGE

HERE: Final = Path(__file__).parent


# What pages have in common, by what stands in a page where it goes.
PARTS: Final = {
    "/* page.css */": "page.css",
    "/* page.js */": "page.js",
    "<!-- login.html -->": "login.html",
    "<!-- second.html -->": "second.html",
}


class Html:
    """A page as it is sent: with a policy under which its own scripts and styles run, and nothing else.

    Args:
        html: All of it.
        script: What else may run, as Content-Security-Policy has it; `style` and `image` likewise.
    """

    def __init__(self, html: str, *, script: str = "", style: str = "", image: str = "") -> None:
        self._html = html
        scripts, styles = [script, *hashes("script", html)], [style, *hashes("style", html)]
        policy = (
            f"default-src 'none'; script-src {' '.join(scripts)}; style-src {' '.join(styles)}; img-src {image}; "
            "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
        )
        self._headers = PAGE | {"Content-Security-Policy": policy}

    def response(self) -> HTMLResponse:
        """Return the answer to whoever asks for it."""
        return HTMLResponse(self._html, headers=self._headers)


class Page(Html):
    """A page of ours, read once, with the parts that pages have in common.

    Args:
        path: The HTML, with the marks of PARTS where they go.
    """

    def __init__(self, path: Path) -> None:
        html = path.read_text(encoding="utf-8")
        for mark, name in PARTS.items():
            html = html.replace(mark, (HERE / name).read_text(encoding="utf-8"))
        super().__init__(html)


def hashes(tag: str, html: str) -> list[str]:
    """Return how a policy names what stands in the page itself, in elements of this kind."""
    texts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]
