"""A log with recorded sessions, a projector, and analytics replicas that are asked over NATS."""

from __future__ import annotations

import secrets
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import msgspec
import nats
from nats.aio.client import Client

from domain.kernel import Stream, fact_id
from eventstore.database import tenant
from eventstore.port import Append, NewEvent
from eventstore.postgres import PostgresStore
from eventstore.settings import Settings
from projections.analytics.asking import Answer, Ask, unpacked
from projections.sessions.queries import SessionFilter, list_sessions
from schemas.sessions import SessionSummary
from tests.projections import test_sessions_more as more
from tests.projections.session_facts import ORG, Keyed, codex_rollout, hooks_of, otlp_of, transcript_of
from workers.analytics import file as files
from workers.projector.host import Workshop

NAMES = ["claude-0447534f", "claude-840b8813", "claude-d9f5b624", "claude-ebe32a83"]
MORE = ["bg", "compact", "fork", "orphan", "turns"]
WAIT_S = 60.0
EVENTS_AT_ONCE = 20


def recorded_facts() -> list[Keyed]:
    """Every recorded session, from every channel."""
    facts = [fact for name in NAMES for fact in (*hooks_of(name), *otlp_of(name), *transcript_of(name))]
    facts += codex_rollout()
    for name in MORE:
        channels = more.told(name)
        facts += [fact for letter in "hot" for fact in channels[letter]]
    return facts


async def tell(store: PostgresStore, facts: list[Keyed], org_id: UUID = ORG) -> int:
    """Append facts; the head afterwards."""
    for session, told in groupby(facts, key=lambda fact: fact[1].llm_session_id):
        stream = Stream("LlmSession", session)
        events = [NewEvent(fact, fact_id(stream.uuid(org_id), key)) for key, fact in told]
        for start in range(0, len(events), EVENTS_AT_ONCE):
            part = events[start : start + EVENTS_AT_ONCE]
            await store.append(Append(org_id=org_id, stream=stream, events=part, facts=True))
    return await store.head()


class Asker:
    """Asks the replicas of one test."""

    def __init__(self, client: Client, subject: str) -> None:
        self.client = client
        self.subject = subject

    async def reply(
        self,
        question: str,
        *,
        org_id: UUID = ORG,
        after: int = 0,
        wait_s: float = WAIT_S,
        deadline_s: float = WAIT_S,
        **params: Any,
    ) -> Answer:
        """The reply as it came; tries again while no replica has come up."""
        raw = msgspec.Raw(msgspec.json.encode(params))
        ask = Ask(question=question, org_id=org_id, params=raw, after=after, wait_s=wait_s, deadline_s=deadline_s)
        for _ in range(int(WAIT_S * 100)):
            try:
                message = await self.client.request(self.subject, msgspec.json.encode(ask), timeout=WAIT_S)
            except nats.errors.NoRespondersError:
                await _pause()
                continue
            return unpacked(message.data)
        raise AssertionError("no replica came up")

    async def ask(self, question: str, **params: Any) -> Any:
        """The answer; a failure fails the test."""
        reply = await self.reply(question, **params)
        assert reply.error is None, (reply.error, reply.message)
        return msgspec.json.decode(reply.answer)


async def _pause() -> None:
    import asyncio  # noqa: PLC0415

    await asyncio.sleep(0.01)


def subject() -> str:
    """A subject of this test's own: the server is shared."""
    return f"test.analytics.{secrets.token_hex(4)}"


def file_of(settings: Settings, number: int = 0) -> Path:
    """The file that replica has in use."""
    found = files.current(Path(settings.data_dir) / "analytics" / str(number))
    assert found is not None
    return found


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, ordered, without what says when it was written."""
    connection = duckdb.connect(str(path), read_only=True)
    try:
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for (name,) in connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE table_name <> 'crewkit_analytics' ORDER BY 1"
            ).fetchall()
        }
    finally:
        connection.close()


async def pages(shop: Workshop, org_id: UUID = ORG) -> list[SessionSummary]:
    """Every session as its page shows it."""
    async with tenant(shop.pool, org_id) as connection:
        return (await list_sessions(connection, org_id, SessionFilter(), limit=200)).items
