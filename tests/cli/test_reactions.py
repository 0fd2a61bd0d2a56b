"""`crewkit reactions`: what waits and what was given up, as tables and JSON, tried again or dropped."""

from __future__ import annotations

import json
from uuid import UUID

import psycopg
import pytest

from tests.cli.conftest import crewkit

EVENT = UUID(int=0xAB << 64)


@pytest.fixture
def database(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CREWKIT_DATABASE_URL", postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for kind, state, remark in (("mail.test", "dead", "the mail server answered 550"), ("other", "waiting", None)):
            connection.execute(
                "INSERT INTO crewkit.reaction (kind, event_id, org_id, position, state, tries, remark, due_at)"
                " VALUES (%s, %s, gen_random_uuid(), 7, %s, 3, %s, clock_timestamp())",
                (kind, EVENT, state, remark),
            )
    return postgres_url


def states(url: str) -> dict[str, tuple[str, int, str | None]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT kind, state, tries, remark FROM crewkit.reaction").fetchall()
    return {kind: (state, tries, remark) for kind, state, tries, remark in rows}


def test_they_are_listed_with_the_reason(database: str) -> None:
    shown = crewkit("reactions", "list", "--state", "dead").stdout
    assert "the mail server answered 550" in shown
    assert "other" not in shown
    [one] = json.loads(crewkit("reactions", "list", "--kind", "other", "--json").stdout)
    assert (one["state"], one["tries"], one["event_id"]) == ("waiting", 3, str(EVENT))


def test_what_was_given_up_is_tried_again_or_dropped(database: str) -> None:
    assert "1 will be tried again" in crewkit("reactions", "retry", "--event", str(EVENT)).stdout
    assert states(database)["mail.test"][:2] == ("waiting", 0)
    assert "no reaction that was given up" in crewkit("reactions", "retry", check=1).stderr
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE crewkit.reaction SET state = 'dead' WHERE kind = 'mail.test'")
    assert "1 dropped" in crewkit("reactions", "drop", "--kind", "mail.test", "--reason", "a test").stdout
    assert states(database) == {"mail.test": ("skipped", 0, "dropped: a test"), "other": ("waiting", 3, None)}
    crewkit("reactions", "drop", check=2)  # without a reason
