"""`crewkit mail`: what landed in the folder of a local instance, as tables, text and links."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from eventstore.settings import Settings
from tests.cli.conftest import crewkit
from workers.reactor.mail.leave import FOLDER, deliver
from workers.reactor.mail.letters import MAGIC_LINK, NEW_DEVICE
from workers.reactor.mail.write import compose, render

NOW = datetime(2026, 11, 25, 13, tzinfo=UTC)
FIRST, SECOND = UUID(int=0xAA << 120), UUID(int=0xAB << 120)
PERSON = UUID(int=8)
LINK = "http://localhost:8000/login/magic?token=abc"


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Two mails, the second one newer and without a link."""
    for n, (ident, wording, link) in enumerate(((FIRST, MAGIC_LINK, LINK), (SECOND, NEW_DEVICE, None))):
        values = dict.fromkeys(("expires", "when", "method", "ip", "user_agent"), "some words")
        parts = render(wording, values, link, "localhost:8000")
        at = NOW + timedelta(minutes=n)
        message = compose(parts, email_id=ident, sender="crewkit <a@b.example>", recipient="ada@example.com", at=at)
        assert await deliver(Settings(data_dir=str(tmp_path)), message, [PERSON]) == "file"
        os.utime(tmp_path / FOLDER / f"{ident}.{PERSON.hex}.eml", (n, n))
    return tmp_path


def run(folder: Path, *words: str, check: int = 0) -> str:
    done = crewkit("mail", *words, "--data-dir", str(folder), check=check)
    return done.stdout + done.stderr


def test_mails_are_listed_newest_first(folder: Path) -> None:
    shown = run(folder, "list")
    assert shown.index("New sign-in") < shown.index("Sign in to crewkit")
    assert "ada@example.com" in shown
    [newest] = json.loads(run(folder, "list", "--limit", "1", "--json"))
    assert newest["id"] == str(SECOND)


def test_a_mail_is_shown_as_text_html_or_as_it_is(folder: Path) -> None:
    text = run(folder, "show", "aa")
    assert "Subject: Sign in to crewkit" in text
    assert LINK in text
    assert "<h1" in run(folder, "show", "aa", "--html")
    assert "Content-Type: multipart/alternative" in run(folder, "show", "aa", "--raw")
    assert "New sign-in" in run(folder, "show")  # the newest


def test_the_link_of_a_mail_can_be_had(folder: Path) -> None:
    assert run(folder, "open-link", "aa", "--print") == f"{LINK}\n"
    assert "has no link" in run(folder, "open-link", "--print", check=1)


def test_what_is_not_there_or_not_clear_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "no such mail" in run(folder, "show", "ffff", check=1)
    assert "2 mails begin with" in run(folder, "show", "a", check=1)
    assert "no mail" in run(tmp_path / "nothing", "list")
