"""Fold the facts of a crewkit session's own stream: opened, declared over, timed out, used again."""

from __future__ import annotations

from domain.sessions.events import SessionEnded, SessionReset, SessionStarted, SessionTimedOut
from eventstore.port import Recorded
from projections.base import Rows
from projections.sessions.merge import ident, larger, short, smaller
from projections.sessions.settle import settle_session
from projections.sessions.tables import SESSION, SessionRow


def fold_life(
    rows: Rows, recorded: Recorded, event: SessionStarted | SessionEnded | SessionTimedOut | SessionReset
) -> None:
    """Apply a fact of the crewkit session's own stream."""
    key = (recorded.org_id, ident(event.session_id))
    row = rows.get(SESSION, key) or SessionRow(*key)
    if recorded.position <= row.last_position:
        return
    row.last_position = recorded.position
    row.last_recorded_at = larger(row.last_recorded_at, recorded.recorded_at)
    if isinstance(event, SessionStarted):
        row.opened, row.kind = True, short(event.kind) or "cli"
        row.person_id = event.person_id
        row.started_at = smaller(row.started_at, event.started_at)
        row.last_work_at = larger(row.last_work_at, event.started_at)
        row.seen_first_at = smaller(row.seen_first_at, event.started_at)
        row.seen_last_at = larger(row.seen_last_at, event.started_at)
        row.repo = row.repo or short(event.context.repo)
        row.branch = row.branch or short(event.context.branch)
        row.commit_hash = row.commit_hash or short(event.context.commit)
        row.project = row.project or short(event.context.project)
    elif isinstance(event, SessionReset):
        row.last_work_at = larger(row.last_work_at, event.reset_at)
        row.seen_last_at = larger(row.seen_last_at, event.reset_at)
        row.declared_at = row.declared_outcome = row.silent_since = row.silent_limit_s = None
    elif isinstance(event, SessionEnded):
        if row.declared_at is None or event.ended_at >= row.declared_at:
            row.declared_at, row.declared_outcome = event.ended_at, short(event.outcome)
        row.seen_last_at = larger(row.seen_last_at, event.ended_at)
    elif row.silent_since is None or event.last_activity_at >= row.silent_since:
        row.silent_since, row.silent_limit_s = event.last_activity_at, event.limit_s
    settle_session(row)
    rows.put(SESSION, row)
