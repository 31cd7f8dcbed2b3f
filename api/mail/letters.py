"""What a mail says: its words are in `templates/NAME.txt`, the look of its HTML in `templates/layout.html`."""

import html
import re
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from string import Template
from typing import Final
from uuid import UUID

# As SMTP has them at most (RFC 5321): a link that is cut in two cannot be copied from a file.
WHOLE_LINES: Final = SMTP.clone(max_line_length=998)
TEMPLATES: Final = Path(__file__).parent / "templates"
STYLE: Final = (
    "display:inline-block;padding:10px 18px;border-radius:8px;background:#087443;color:#fff;text-decoration:none;"
    "font-weight:600"
)


def letter(name: str, *, mail_id: UUID, sender: Address, to: str, at: datetime, values: dict[str, str]) -> EmailMessage:
    """Return a mail in plain text and in HTML.

    Args:
        name: The template's.
        mail_id: Names the message, too: sent twice, it is the same one, of which programs show one.
        sender: Whom it is from.
        to: The address, in its canonical form.
        at: When it is sent.
        values: What stands for each `$name` in the template.
    """
    # Raises KeyError for a name that nobody gives, which a test of every template would find.
    said = Template((TEMPLATES / f"{name}.txt").read_text(encoding="utf-8")).substitute(values)
    subject, _, text = said.partition("\n\n")
    message = EmailMessage(policy=WHOLE_LINES)
    message["Subject"] = subject.removeprefix("Subject: ")
    message["From"] = sender
    message["To"] = Address(addr_spec=to)
    message["Date"] = format_datetime(at.astimezone(UTC))
    message["Message-ID"] = f"<{mail_id}@{sender.domain}>"
    # Nobody's "I am on holiday" comes back (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    message.add_alternative(as_html(subject.removeprefix("Subject: "), text), subtype="html")
    return message


def as_html(title: str, text: str) -> str:
    """Return a text as HTML: a paragraph for each, and a link that stands alone as a button, too."""
    body = []
    for paragraph in text.strip().split("\n\n"):
        shown = html.escape(paragraph.strip()).replace("\n", "<br>\n")
        if re.fullmatch(r"https?://\S+", paragraph.strip()):
            body.append(f'<p><a href="{shown}" style="{STYLE}">{html.escape(title)}</a></p>')
            shown = f"<small>{shown}</small>"
        body.append(f"<p>{shown}</p>")
    layout = Template((TEMPLATES / "layout.html").read_text(encoding="utf-8"))
    return layout.substitute(title=html.escape(title), body="\n".join(body))
