"""Take in what agents say, and open, end and time out sessions.

Answers are given after the commit.  All ingestion is idempotent: a fact told twice is a `duplicate`, whatever road it took.
"""

from __future__ import annotations

from commands.sessions.consolidation import begin_consolidation, consolidate_session, note_defect
from commands.sessions.feedback import submit_feedback
from commands.sessions.hooks import ingest_bare_hook, ingest_hooks
from commands.sessions.items import ingest_batches, ingest_items
from commands.sessions.lifecycle import end_session, reset_session, start_session, time_out_session
from commands.sessions.telemetry import TelemetryAnswer, ingest_telemetry
from commands.sessions.worktree import create_worktree, resolve_worktree

__all__ = [
    "TelemetryAnswer",
    "begin_consolidation",
    "consolidate_session",
    "create_worktree",
    "end_session",
    "ingest_bare_hook",
    "ingest_batches",
    "ingest_hooks",
    "ingest_items",
    "ingest_telemetry",
    "note_defect",
    "reset_session",
    "resolve_worktree",
    "start_session",
    "submit_feedback",
    "time_out_session",
]
