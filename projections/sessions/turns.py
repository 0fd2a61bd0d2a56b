"""Fold prompts, turns and subagents."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from domain.sessions.observations import PromptSubmitted, SubagentEnded, SubagentStarted, TurnEnded
from projections.sessions.merge import PROMPT_CHARS_MAX, bounded, clean, ident, larger, newest, short, smaller
from projections.sessions.tables import PROMPT, SUBAGENT, PromptRow, SubagentRow
from projections.sessions.work import HOOK, TELEMETRY, TRANSCRIPT, Work, count_prompt, prompt_counts

TEXT_RANK = {HOOK: 3, TRANSCRIPT: 2, TELEMETRY: 1}
SUBAGENT_RANK = {"running": 0, "completed": 1, "stopped": 2, "killed": 2, "cancelled": 2, "failed": 3, "error": 3}
BLOCKS_MAX = 100  # content blocks of one prompt that are looked at


def prompt_key(prompt_id: str | None, work_channel: str, event_id: object) -> str:
    """The key of a prompt: its id, else the fact that told of it."""
    return ident(prompt_id) if prompt_id else f"@{work_channel}:{event_id}"


def _prompt(work: Work, seen: PromptSubmitted | TurnEnded) -> PromptRow:
    key = prompt_key(seen.prompt_id, work.channel, work.recorded.event_id)
    row = work.rows.get(PROMPT, (work.org, work.lid, key))
    if row is None:
        # Without an id, hooks are believed first: the same prompt's transcript line cannot be matched to them.
        stand_in = seen.stand_in or (seen.prompt_id is None and work.channel != HOOK)
        row = PromptRow(work.org, work.lid, key, work.fact.person_id, stand_in=stand_in)
    return row


def fold_prompt(work: Work, seen: PromptSubmitted, content: Any) -> None:
    """A turn began.  `content` opens the fact's sealed record on demand; hooks tell the prompt as it was typed."""
    row = _prompt(work, seen)
    was = prompt_counts(row)
    at = work.at(seen.at)
    row.submitted_at = smaller(row.submitted_at, at)
    row.chars = larger(row.chars, bounded(seen.chars))
    row.source = larger(row.source, short(seen.source))
    row.command = larger(row.command, short(seen.command))
    rank = TEXT_RANK[work.channel]
    if work.fact.content is not None and rank > row.text_rank and (opened := content(work.recorded)) is not None:
        text = prompt_text(opened)
        if text is not None:
            row.text, row.text_rank = text, rank
    work.rows.put(PROMPT, row)
    llm = work.llm
    count_prompt(llm, was, row)
    if seen.agent_id is None:
        llm.last_prompt_at = larger(llm.last_prompt_at, at)
        llm.last_work_at = larger(llm.last_work_at, at)
        work.changed = True


def prompt_text(record: dict[str, Any]) -> str | None:
    """The prompt in a record of any agent: `prompt`, or the text of `message`, `content` or `payload`."""
    parts: list[str] = []
    _texts(record.get("prompt"), parts)
    for name in ("message", "payload", "content", "user_prompt"):
        if not parts:
            _texts(record.get(name), parts)
    text = clean("\n".join(parts))[:PROMPT_CHARS_MAX].strip()
    return text or None


def _texts(value: Any, parts: list[str]) -> None:
    if type(value) is str:
        parts.append(value)
    elif type(value) is list:
        for block in value[:BLOCKS_MAX]:
            _texts(block, parts)
    elif type(value) is dict:
        _texts(value.get("text") or value.get("content") or value.get("message"), parts)


def note_model(work: Work, prompt_id: str, model: str, at: datetime) -> None:
    """The model of a turn: Codex names it in the turn's context, not in the record of what the turn used."""
    key = (work.org, work.lid, ident(prompt_id))
    row = work.rows.get(PROMPT, key) or PromptRow(*key, work.fact.person_id)
    newest(row, "model", model, at)
    work.rows.put(PROMPT, row)


def model_of(work: Work, prompt_id: str | None) -> str | None:
    """The model of a turn as far as it is known, else the conversation's."""
    row = work.rows.get(PROMPT, (work.org, work.lid, ident(prompt_id))) if prompt_id else None
    return (row.model if row else None) or work.llm.model


def fold_turn(work: Work, seen: TurnEnded) -> None:
    """A turn ended, well or with an error.  A subagent's stop is not a turn of the conversation."""
    if seen.agent_id is not None:
        return
    row = _prompt(work, seen)
    was = prompt_counts(row)
    at = work.at(seen.at)
    error = short(seen.error)
    row.ended_at = larger(row.ended_at, at)
    row.error = larger(row.error, error)
    work.rows.put(PROMPT, row)
    llm = work.llm
    count_prompt(llm, was, row)
    if llm.last_turn_at is None or at > llm.last_turn_at:
        llm.last_turn_at, llm.last_turn_error = at, error
    elif at == llm.last_turn_at:
        llm.last_turn_error = larger(llm.last_turn_error, error)
    work.changed = True


def subagent(work: Work, agent_id: str) -> SubagentRow:
    """The row of a subagent, new or known."""
    key = ident(agent_id)
    return work.rows.get(SUBAGENT, (work.org, work.lid, key)) or SubagentRow(work.org, work.lid, key)


def put_subagent(work: Work, row: SubagentRow, *, real: bool) -> None:
    """Write it back and count it once it has proved to be a subagent."""
    if real and not row.real:
        row.real = True
        work.llm.subagents += 1
    work.rows.put(SUBAGENT, row)


def fold_subagent_start(work: Work, seen: SubagentStarted) -> None:
    """A subagent began, or was launched into the background."""
    if seen.agent_id is None:
        return
    row = subagent(work, seen.agent_id)
    row.started_at = smaller(row.started_at, work.at(seen.at))
    row.agent_type = larger(row.agent_type, short(seen.agent_type) or None)
    row.parent_tool_use_id = larger(row.parent_tool_use_id, ident(seen.parent_tool_use_id or "") or None)
    row.background = larger(row.background, seen.background)
    put_subagent(work, row, real=True)


def fold_subagent_end(work: Work, seen: SubagentEnded) -> None:
    """A subagent stopped.  No start and no type: an internal fork such as compaction, kept but not counted."""
    if seen.agent_id is None:
        return
    row = subagent(work, seen.agent_id)
    status = seen.status if seen.status in SUBAGENT_RANK else "completed"
    if SUBAGENT_RANK[status] > SUBAGENT_RANK[row.status] or (
        SUBAGENT_RANK[status] == SUBAGENT_RANK[row.status] and status > row.status
    ):
        row.status = status
    row.ended_at = smaller(row.ended_at, work.at(seen.at))  # a meta file tells of it again, at its import
    row.agent_type = larger(row.agent_type, short(seen.agent_type) or None)
    row.model = larger(row.model, short(seen.model))
    row.told_total_tokens = larger(row.told_total_tokens, bounded(seen.total_tokens))
    row.told_tool_uses = larger(row.told_tool_uses, bounded(seen.tool_uses))
    row.told_duration_ms = larger(row.told_duration_ms, bounded(seen.duration_ms))
    put_subagent(work, row, real=bool(seen.agent_type))
