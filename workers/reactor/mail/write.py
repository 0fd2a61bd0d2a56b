"""From wording and values to a message with a text and an HTML part; the same event always gives the same message."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from workers.reactor.mail.letters import Wording

SUBJECT_CHARS_MAX = 150
VALUE_CHARS_MAX = 200  # of a value that somebody else chose: names, user agents
LAYOUTS = Path(__file__).parent

_STRINGS = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701  plain text; HTML escapes it again
_HTML = Environment(loader=FileSystemLoader(LAYOUTS), undefined=StrictUndefined, autoescape=True, trim_blocks=True)
_TEXT = Environment(loader=FileSystemLoader(LAYOUTS), undefined=StrictUndefined, autoescape=False, trim_blocks=True)  # noqa: S701


class AddressError(ValueError):
    """The address cannot stand in a message."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as it reads."""

    subject: str
    text: str
    html: str


@cache
def _compiled(source: str) -> Template:
    return _STRINGS.from_string(source)


def _line(source: str, values: Mapping[str, Any]) -> str:
    """One line of text; white space and control characters of values become single blanks."""
    rendered = _compiled(source).render(values)
    return " ".join("".join(c if c.isprintable() else " " for c in rendered).split())


def render(wording: Wording, values: Mapping[str, str | None], link: str | None, place: str) -> Parts:
    """Both parts and the subject.  `place` is where this crewkit can be reached."""
    short = {name: value[:VALUE_CHARS_MAX] if value else None for name, value in values.items()}

    def lines(sources: tuple[str, ...]) -> list[str]:
        return [line for source in sources if (line := _line(source, short))]

    shown = {
        "subject": _line(wording.subject, short)[:SUBJECT_CHARS_MAX],
        "preheader": _line(wording.preheader, short),
        "heading": _line(wording.heading, short),
        "before": lines(wording.before),
        "button": wording.button,
        "link": link if wording.button else None,
        "after": lines(wording.after),
        "place": place,
    }
    return Parts(
        subject=str(shown["subject"]),
        text=_TEXT.get_template("layout.txt.jinja").render(shown) + "\n",
        html=_HTML.get_template("layout.html.jinja").render(shown) + "\n",
    )


def compose(parts: Parts, *, email_id: UUID, sender: str, recipient: str, at: datetime) -> EmailMessage:
    """The message.  Its Message-ID is the mail's id, its date that of the event: a repeat is recognisable as one.

    Raises:
        AddressError: sender or recipient is no address.
    """
    name, address = parseaddr(sender)
    message = EmailMessage(policy=SMTP)
    origin = _address(name, address)
    message["From"] = origin
    message["To"] = _address("", recipient)
    message["Subject"] = parts.subject
    message["Date"] = format_datetime(at.astimezone(UTC))
    message["Message-ID"] = f"<{email_id}@{origin.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(parts.text)
    message.add_alternative(parts.html, subtype="html")
    message.set_boundary(f"=_{email_id.hex}")
    return message


def _address(name: str, text: str) -> Address:
    try:
        address = Address(display_name=name, addr_spec=text)
    except (HeaderParseError, ValueError, IndexError) as error:
        raise AddressError("not an e-mail address") from error
    if not address.username or "." not in f"{address.domain}." or not address.domain:
        raise AddressError("not an e-mail address")
    return address
