"""What a model wrote about sessions: the newest per session, still sealed, opened for whoever asks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.kernel import tag_of
from domain.summaries.events import SessionSummarized
from eventstore.database import Connection
from eventstore.port import Recorded
from eventstore.sealing import KeyRing, unboxed
from projections.base import Key, Projection, Rows, Table
from schemas.insights import AiInsights, Written


class SummaryRow(msgspec.Struct):
    """The newest words about one session.  `text_box` is ciphertext."""

    org_id: UUID
    session_id: str
    person_id: UUID
    facts_position: int
    activity_at: datetime
    model: str
    prompt_version: str
    text_box: str | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd_micros: int | None
    price_version: str | None
    summarized_at: datetime
    position: int


SUMMARIES = Table("session_summary", SummaryRow, ("org_id", "session_id"))
DDL = """
CREATE TABLE crewkit.session_summary__g{g} (
    org_id uuid NOT NULL,
    session_id text NOT NULL,
    person_id uuid NOT NULL,
    facts_position bigint NOT NULL,
    activity_at timestamptz NOT NULL,
    model text NOT NULL,
    prompt_version text NOT NULL,
    text_box text,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    cost_usd_micros bigint,
    price_version text,
    summarized_at timestamptz NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (org_id, session_id)
);
"""


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The one row an event is about."""
    event = recorded.event
    return ((SUMMARIES, (recorded.org_id, event.session_id)),) if isinstance(event, SessionSummarized) else ()


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    event = recorded.event
    if not isinstance(event, SessionSummarized):
        return
    known = rows.get(SUMMARIES, (recorded.org_id, event.session_id))
    if known is not None and known.position >= recorded.position:
        return
    told = {name: getattr(event, name) for name in SummaryRow.__struct_fields__ if hasattr(event, name)}
    rows.put(
        SUMMARIES,
        SummaryRow(**told, org_id=recorded.org_id, text_box=event.text.box, position=recorded.position),
    )


PROJECTION = Projection(
    "summaries", 1, tables=(SUMMARIES,), ddl=DDL, touches=touches, fold=fold, reads=(SessionSummarized,)
)

_ONE = f"SELECT {', '.join(SummaryRow.__struct_fields__)} FROM crewkit.session_summary WHERE org_id = $1 AND session_id = $2"  # noqa: S608


async def find_summary(connection: Connection, org_id: UUID, session_id: str) -> SummaryRow | None:
    """The newest words about a session; None where nothing was written, or no projector of ours has run yet."""
    if await connection.fetchval("SELECT to_regclass('crewkit.session_summary')") is None:
        return None
    record = await connection.fetchrow(_ONE, org_id, session_id)
    return SummaryRow(*record) if record else None


async def opened(ring: KeyRing, row: SummaryRow, activity_at: datetime | None) -> AiInsights:
    """As people read it; `erased` and without words where the person's key is gone.

    `activity_at` is the session's last activity now: words about an earlier state say so.
    """
    text = None
    if row.text_box is not None:
        [text] = await ring.open_many(row.org_id, [(tag_of(SessionSummarized), unboxed(row.text_box))])
    written = msgspec.json.decode(text, type=Written) if text is not None else None
    return AiInsights(
        erased=written is None,
        current=activity_at is None or activity_at <= row.activity_at,
        written=written,
        model=row.model,
        prompt_version=row.prompt_version,
        summarized_at=row.summarized_at,
        facts_position=row.facts_position,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cache_read_tokens=row.cache_read_tokens,
        cache_write_tokens=row.cache_write_tokens,
        cost_usd_micros=row.cost_usd_micros,
        price_version=row.price_version,
    )
