"""What the analytics file must hold: the log, folded without the runtime, compared with every row of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventstore.port import Recorded
from projections.base import Rows
from projections.sessions import PROJECTION
from projections.sessions.reconcile import cost_of
from projections.sessions.tables import LLM_SESSION, MODEL_CALL, PROMPT, SESSION, TOOL_CALL
from projections.sessions.totals import counted, totals_of
from tests.workers.analytics_house import contents
from workers.analytics import file as files
from workers.projector.host import Workshop


async def truth(shop: Workshop, until_position: int) -> Rows:
    """The log up to a position, folded without the runtime."""
    projection, rows, after = PROJECTION.bound(shop.texts), Rows(), 0
    while after < until_position and (page := (await shop.source().read(after, 500)).items):
        events = [item for item in page if isinstance(item, Recorded) and item.position <= until_position]
        await shop.texts.prepare(events)
        for recorded in events:
            projection.fold(rows, recorded)
        after = page[-1].position
    return rows


def check(path: Path, rows: Rows) -> None:
    """Whether the file holds exactly what the folded log says."""
    stored = contents(path)
    columns = {
        name: [column.name for column in files.BY_NAME[name].columns] for name in stored if name in files.BY_NAME
    }

    def keyed(table: str, *names: str) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for row in stored[table]:
            told = dict(zip(columns[table], row, strict=True))
            key = tuple(told[part] for part in files.BY_NAME[table].key[1:])
            assert key not in found, f"{table} {key} is there twice"
            found[key] = tuple(told[name] for name in names)
        return found

    counts = {call.call_key for call in counted(rows.all(MODEL_CALL), rows)}
    assert keyed("fact_llm_call", "llm_session_id", "output_tokens", "priced_pico_usd", "counts") == {
        (call.call_key,): (call.llm_session_id, call.output_tokens, call.priced_pico_usd, call.call_key in counts)
        for call in rows.all(MODEL_CALL)
    }
    assert keyed("fact_tool_call", "status") == {
        (one.llm_session_id, one.tool_use_id): (one.status,) for one in rows.all(TOOL_CALL)
    }
    assert set(keyed("fact_prompt")) == {(one.llm_session_id, one.prompt_id) for one in rows.all(PROMPT)}
    assert set(keyed("fact_session")) == {(one.session_id,) for one in rows.all(SESSION) if one.visible}
    assert keyed("fact_llm_session", "cost_usd_micros") == {
        (llm.llm_session_id,): (cost_of(llm, totals_of(rows, llm.llm_session_id)).cost_usd_micros,)
        for llm in rows.all(LLM_SESSION)
    }
