"""What mails say: text and HTML of every kind as snapshots, equal in meaning, safe against what others chose.

`UPDATE_LETTERS=1 pytest tests/workers/test_mail_letters.py` writes the snapshots anew: read the diff.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from uuid import UUID

import pytest

from workers.reactor.mail import letters
from workers.reactor.mail.letters import Wording
from workers.reactor.mail.write import AddressError, Parts, compose, render

SNAPSHOTS = Path(__file__).parent / "letters"
VALUES: dict[str, str | None] = {
    "expires": "2026-11-25 13:15 UTC",
    "name": "Ada Lovelace",
    "when": "2026-11-25 13:00 UTC",
    "method": "password",
    "ip": "192.0.2.7",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
    "organization": "Acme",
    "permission": "developer",
    "permission_before": "viewer",
    "org_role": "senior",
    "org_role_before": "junior",
    "who": "grace@example.com",
}
NOTHING = dict.fromkeys(VALUES)
LINK = "https://crewkit.example.com/login?token=abc-DEF_1&x=1"
PLACE = "crewkit.example.com"
WORDINGS = {name.lower(): value for name, value in vars(letters).items() if isinstance(value, Wording)}
MAIL_ID = UUID(int=5)


def words(text: str) -> list[str]:
    return re.findall(r"\S+", text)


def shown(html: str) -> str:
    """What a person sees of the HTML part, without the line that mail programs show beside the subject."""
    body = re.sub(r"(?s)<head>.*?</head>|<div style=\"display:none.*?</div>", " ", html)
    return unescape(re.sub(r"<[^>]+>", " ", body))


@pytest.mark.parametrize("name", sorted(WORDINGS))
def test_every_letter_reads_as_it_was_approved(name: str) -> None:
    parts = render(WORDINGS[name], VALUES, LINK, PLACE)
    for suffix, text in (("txt", f"Subject: {parts.subject}\n\n{parts.text}"), ("html", parts.html)):
        path = SNAPSHOTS / f"{name}.{suffix}"
        if os.environ.get("UPDATE_LETTERS") == "1":
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(WORDINGS))
@pytest.mark.parametrize("values", [VALUES, NOTHING], ids=["all", "nothing"])
def test_text_and_html_say_the_same(name: str, values: dict[str, str | None]) -> None:
    parts = render(WORDINGS[name], values, LINK, PLACE)
    said = [word for word in words(parts.text) if word != "--"]
    seen = [word for word in words(shown(parts.html)) if word != "crewkit" or word in said]
    missing = [word.rstrip(":") for word in said if word.rstrip(":") not in " ".join(seen)]
    assert missing == []
    assert "None" not in parts.text + parts.html + parts.subject
    linked = WORDINGS[name].button is not None
    assert (LINK in parts.text) == linked
    assert (LINK.replace("&", "&amp;") in parts.html) == linked


@pytest.mark.parametrize("name", sorted(WORDINGS))
def test_nothing_is_fetched_from_anywhere_and_the_only_address_is_the_link(name: str) -> None:
    html = render(WORDINGS[name], VALUES, LINK, PLACE).html
    assert re.findall(r"(?i)<(?:img|script|link|style|iframe|video|object)|src=|url\(|@import", html) == []
    assert set(re.findall(r'href="([^"]*)"', html)) <= {LINK.replace("&", "&amp;")}


HOSTILE = "<script>alert(1)</script>\r\nBcc: victim@example.com\x00 {{ 7 * 7 }}"


@pytest.mark.parametrize("name", sorted(WORDINGS))
def test_values_that_others_chose_stay_words(name: str) -> None:
    parts = render(WORDINGS[name], dict.fromkeys(VALUES, HOSTILE * 20), LINK, PLACE)
    assert "<script>" not in parts.html
    assert "49" not in parts.text
    assert "\nBcc:" not in parts.text
    message = compose(parts, email_id=MAIL_ID, sender="crewkit <a@b.example>", recipient="c@d.example", at=NOW)
    assert message["Bcc"] is None
    assert len(parts.subject) <= 150


NOW = datetime(2026, 11, 25, 13, tzinfo=UTC)


def test_the_same_event_gives_the_same_message() -> None:
    parts = Parts(subject="s", text="t\n", html="<p>t</p>\n")

    def made() -> bytes:
        return compose(
            parts, email_id=MAIL_ID, sender="crewkit <a@b.example>", recipient="c@d.example", at=NOW
        ).as_bytes()

    assert made() == made()
    assert f"Message-ID: <{MAIL_ID}@b.example>".encode() in made()
    assert b"multipart/alternative" in made()


@pytest.mark.parametrize(
    "address", ["", "nobody", "a@", "@b.example", "a b@c.example", "a@b.example\r\nBcc: x@y.example"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    parts = Parts(subject="s", text="t\n", html="<p>t</p>\n")
    with pytest.raises(AddressError):
        compose(parts, email_id=MAIL_ID, sender="crewkit <a@b.example>", recipient=address, at=NOW)
