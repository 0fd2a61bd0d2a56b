"""What a model wrote about a session, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from schemas.insights import AiInsights


class _Taught(msgspec.Struct):
    ai: AiInsights | None = None


def insight_lines(body: bytes) -> Iterator[str]:
    """Of an answer of the insights endpoint; nothing where no model wrote."""
    ai = msgspec.json.decode(body, type=_Taught).ai
    if ai is None:
        return
    cost = "unknown" if ai.cost_usd_micros is None else f"${ai.cost_usd_micros / 1e6:.6f}"
    yield f"Written by {ai.model} on {ai.summarized_at.astimezone():%Y-%m-%d %H:%M} (cost {cost})"
    if ai.written is None:
        yield "  the person was erased, and these words with them"
        return
    if not ai.current:
        yield "  about an earlier state: the session went on"
    yield f"  {ai.written.summary}"
    for tip in ai.written.coaching_tips:
        yield f"  Tip: {tip.title}. {tip.text}"
    for action in ai.written.recommendations:
        yield f"  To do ({action.priority}): {action.title}. {action.text}"
    for one in ai.written.efficiency:
        yield f"  {one.metric}: {one.verdict}. {one.comment}"
