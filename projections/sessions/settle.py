"""Which status and outcome a session has, and the rule that decided it.

An agent conversation
- `ended` when a SessionEnd was told and no prompt or start is newer (rule `session_end:<reason>`), else `active`.
- outcome of what has ended: `failed` when the last turn failed (`stop_failure:<error>`) or the last prompt got only API errors
  (`api_error:<error>`), `completed` when the last turn stopped by itself (`session_end:<reason> after stop`), `abandoned` when
  the last prompt got no stop (`session_end:<reason> without stop`: an interrupt, or a kill), `unknown` when there was no prompt.

A crewkit session
- `ended` when somebody declared it (`session.ended`) and nobody began anew, or when each of its conversations has ended;
  outcome: what was declared, else that of the conversation that ended last.
- `timed_out` when nothing is newer than the last activity that `session.timed_out` named; the outcome follows the last turn.
- else `active`, with no outcome yet.  Later activity after a time-out, or a later prompt after an end, makes it active again.

Sources: hooks SessionEnd, Stop and StopFailure (reference/agent-telemetry.md 1.2: there is no Stop after an interrupt), OTLP
api_error.
"""

from __future__ import annotations

from projections.sessions.merge import larger, smaller
from projections.sessions.tables import LlmSessionRow, SessionRow

STOPPED, FAILED, OPEN, NONE = "stopped", "failed", "open", "none"
OUTCOME_OF_TURN = {STOPPED: "completed", FAILED: "failed", OPEN: "abandoned", NONE: "unknown"}
RULE_OF_TURN = {STOPPED: "after stop", FAILED: "after failure", OPEN: "without stop", NONE: "without prompt"}


def turn_of(row: LlmSessionRow) -> tuple[str, str | None]:
    """How the last turn stands, and the rule where it failed."""
    turned, prompted = row.last_turn_at, row.last_prompt_at
    if turned is not None and (prompted is None or turned >= prompted):
        if row.last_turn_error is not None:
            return FAILED, f"stop_failure:{row.last_turn_error}"
        return STOPPED, None
    if prompted is None:
        return NONE, None
    errored, answered = row.last_error_at, row.last_model_at
    if errored is not None and errored >= prompted and (answered is None or errored >= answered):
        return FAILED, f"api_error:{row.last_error}"
    return OPEN, None


def settle_llm(row: LlmSessionRow) -> None:
    """Decide status and outcome of a conversation from what its row knows."""
    turn, failed_by = turn_of(row)
    row.turn_state = turn
    ended = row.ended_at
    if ended is None or (row.last_work_at is not None and row.last_work_at > ended):
        row.status, row.status_rule = "active", "activity" if ended is None else "activity after end"
        row.outcome = row.outcome_rule = None
        return
    row.status, row.status_rule = "ended", f"session_end:{row.end_reason}"
    row.outcome = OUTCOME_OF_TURN[turn]
    row.outcome_rule = failed_by or f"{row.status_rule} {RULE_OF_TURN[turn]}"


def settle_session(row: SessionRow) -> None:
    """Decide status and outcome of a crewkit session from what its row knows."""
    row.first_activity_at = row.acted_first_at or row.seen_first_at or row.started_at
    row.last_activity_at = row.acted_last_at or row.seen_last_at or row.started_at
    row.visible = row.opened or row.llm_sessions > 0
    declared = row.declared_at
    if declared is not None and not (row.last_work_at is not None and row.last_work_at > declared):
        row.status, row.status_rule = "ended", "session.ended"
        row.outcome, row.outcome_rule = row.declared_outcome, "session.ended"
    elif row.llm_sessions > 0 and row.active_llm_sessions == 0:
        row.status, row.status_rule = "ended", "session_end"
        row.outcome, row.outcome_rule = row.final_outcome, row.final_rule
    elif row.silent_since is not None and (row.last_activity_at is None or row.last_activity_at <= row.silent_since):
        row.status, row.status_rule = "timed_out", f"silent for {row.silent_limit_s} s"
        row.outcome = OUTCOME_OF_TURN[row.turn_state]
        row.outcome_rule = f"timeout {RULE_OF_TURN[row.turn_state]}"
    else:
        row.status, row.status_rule = "active", "activity"
        row.outcome = row.outcome_rule = None


def take_state(session: SessionRow, llm: LlmSessionRow, was: str | None) -> None:
    """Carry a conversation's state (before: `was`, None when it is new to the session) into its session."""
    active = llm.status == "active"
    if was is None:
        session.llm_sessions += 1
        session.active_llm_sessions += active
    else:
        session.active_llm_sessions += active - (was == "active")
    work_at = llm.last_work_at
    if session.turn_at is None or (work_at is not None and work_at >= session.turn_at):
        session.turn_at = larger(session.turn_at, work_at)
        session.turn_state = llm.turn_state
    session.last_work_at = larger(session.last_work_at, work_at)
    session.started_at = smaller(session.started_at, llm.started_at)
    if active:
        if session.final_by == llm.llm_session_id:
            session.final_at = session.final_by = session.final_outcome = session.final_rule = None
        return
    mine = session.final_by in {None, llm.llm_session_id}
    if mine or session.final_at is None or (llm.ended_at is not None and llm.ended_at >= session.final_at):
        session.final_at, session.final_by = llm.ended_at, llm.llm_session_id
        session.final_outcome, session.final_rule = llm.outcome, llm.outcome_rule
