"""Shared by the tests of the store on Postgres."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from domain.kernel import Stream, fact_id
from domain.sessions.events import SessionEnded
from eventstore.database import API_ROLE, Pool, connect_pool
from eventstore.mapper import Mapper
from eventstore.port import Append, NewEvent
from eventstore.postgres import PostgresStore
from eventstore.sealing import MemoryKeyRing

ORG, OTHER_ORG = UUID(int=1), UUID(int=2)
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def stream(name: object) -> Stream:
    return Stream("Session", str(name))


def wish(name: object, *, count: int = 1, org_id: UUID = ORG, **options: Any) -> Append:
    event = SessionEnded(session_id=str(name), outcome="completed", ended_at=AT)
    return Append(org_id=org_id, stream=stream(name), events=[NewEvent(event)] * count, **options)


def facts(name: object, *keys: object, org_id: UUID = ORG, **options: Any) -> Append:
    event = SessionEnded(session_id=str(name), outcome="completed", ended_at=AT)
    stream_id = stream(name).uuid(org_id)
    events = [NewEvent(event, fact_id(stream_id, str(key))) for key in keys]
    return Append(org_id=org_id, stream=stream(name), events=events, facts=True, **options)


@asynccontextmanager
async def opened(
    url: str, *, role: str | None = API_ROLE, on_commit: Callable[[int], object] | None = None
) -> AsyncGenerator[PostgresStore, None]:
    store = PostgresStore(url, Mapper(MemoryKeyRing()), role=role, on_commit=on_commit)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def pooled(url: str, role: str | None = None) -> AsyncGenerator[Pool, None]:
    pool = await connect_pool(url, role, max_size=4)
    try:
        yield pool
    finally:
        await pool.close()
