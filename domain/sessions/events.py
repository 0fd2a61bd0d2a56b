"""Facts about sessions.  Hook events, telemetry and transcript lines are kept as they arrived; what they mean is read later.

Each channel fact lives on the stream `LlmSession:<the agent's own session id>` and is split in two: `attrs`, the structure
(ids, kinds, numbers, enumerations) that stays readable, and `content`, the JSON text of everything else (prompts, tool
inputs and outputs, paths, assistant text), sealed for the person who worked.  `attrs` plus opened `content` is the record.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.kernel import Event, Sealed


class Context(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the work happened, as the developer's side saw it; every field may be unknown.

    `repo` is `owner/name` or the remote's path, `commit` a hash, `project` a slug, `work_id` the crewkit session that the
    agent session belongs to when it is not its own.
    """

    repo: str | None = None
    branch: str | None = None
    commit: str | None = None
    project: str | None = None
    work_id: str | None = None


class ChannelFact(Event, frozen=True, kw_only=True, omit_defaults=True):
    """What all channel facts share.

    `agent` is `claude`, `codex`, `gemini` or another agent's name; `llm_session_id` the agent's own id; `kind` the vendor's
    name of the record; `occurred_at` the client's clock (UTC), which may be wrong; `person_id` the data subject.
    """

    agent: str
    llm_session_id: str
    kind: str
    occurred_at: datetime
    person_id: UUID
    attrs: dict[str, Any] = msgspec.field(default_factory=dict)
    content: Sealed | None = None
    context: Context = Context()
    cut_bytes: int = 0  # > 0: `content` was cut from this many bytes
    sha256: str | None = None  # of the whole content before the cut


class HookRecorded(ChannelFact, frozen=True, kw_only=True, tag="hook.recorded.v1"):
    """An agent called a hook.  `kind` is the hook event name, known to us or not."""


class TelemetryRecorded(ChannelFact, frozen=True, kw_only=True, tag="telemetry.recorded.v1"):
    """An agent reported one OTLP record.  `signal` is `log`, `metric` or `span`; `kind` the event, metric or span name."""

    signal: str


class TranscriptRecorded(ChannelFact, frozen=True, kw_only=True, tag="transcript.recorded.v1"):
    """One line of an agent's own transcript.  `kind` is the line's type (with its subtype after a dot where it has one)."""


class SessionStarted(Event, frozen=True, kw_only=True, tag="session.started.v1"):
    """A person opened a piece of work.  `kind` is `cli`, `dashboard`, `kickoff` or `workflow`."""

    session_id: str
    kind: str
    person_id: UUID
    started_at: datetime
    context: Context = Context()


class SessionEnded(Event, frozen=True, kw_only=True, tag="session.ended.v1"):
    """A piece of work was declared over.  `outcome` is `completed`, `failed` or `abandoned`."""

    session_id: str
    outcome: str
    ended_at: datetime


class SessionTimedOut(Event, frozen=True, kw_only=True, tag="session.timed_out.v1"):
    """Nothing was heard of a session for longer than the stale limit; later activity makes it active again."""

    session_id: str
    last_activity_at: datetime
    timed_out_at: datetime
    limit_s: int


class LlmSessionConsolidationStarted(Event, frozen=True, kw_only=True, tag="llm_session.consolidation_started.v1"):
    """A generation of a conversation's items is to be written to the object store: versions after `after_version` up to
    `to_version` of its stream, never others, however often it is tried.
    """

    llm_session_id: str
    generation: int
    after_version: int
    to_version: int
    started_at: datetime


class ConsolidatedObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object: gzipped JSON Lines of the conversation's items, or with `subagent_id` of a subagent's.

    `sha256` and `bytes` are of the object as stored, `lines_sha256` of the text in it, which also stands in `key`.
    """

    key: str
    subagent_id: str | None
    items: int
    bytes: int
    sha256: str
    lines_sha256: str
    from_position: int
    to_position: int


class LlmSessionConsolidated(Event, frozen=True, kw_only=True, tag="llm_session.consolidated.v1"):
    """The generation stands in the object store; `objects` is its manifest.  Positions are of its first and last item."""

    llm_session_id: str
    generation: int
    after_version: int
    to_version: int
    from_position: int
    to_position: int
    items: int
    bytes: int
    objects: list[ConsolidatedObject]
    completed_at: datetime


class LlmSessionConsolidationFailed(Event, frozen=True, kw_only=True, tag="llm_session.consolidation_failed.v1"):
    """The generation could not be written, for the `failures`-th time.  `reason`: `unavailable`, `refused` or `defect`."""

    llm_session_id: str
    generation: int
    reason: str
    failures: int
    failed_at: datetime


class SessionWorktreeCreated(Event, frozen=True, kw_only=True, tag="session.worktree_created.v1"):
    """A session works in a git worktree of its own, on its own branch.  The path names the person's machine: sealed."""

    session_id: str
    person_id: UUID
    path: Sealed
    branch: str
    created_at: datetime


class SessionWorktreeResolved(Event, frozen=True, kw_only=True, tag="session.worktree_resolved.v1"):
    """What became of a session's worktree: `merged`, `pull_request`, `discarded` or `kept`."""

    session_id: str
    resolution: str
    resolved_at: datetime


class SessionFeedbackSubmitted(Event, frozen=True, kw_only=True, tag="session.feedback_submitted.v1"):
    """A person said how a session went.  `rating` is 1 (useless) to 5 (could not be better); the words are the person's."""

    session_id: str
    feedback_id: UUID
    person_id: UUID
    rating: int | None
    comment: Sealed | None
    submitted_at: datetime


class SessionReset(Event, frozen=True, kw_only=True, tag="session.reset.v1"):
    """A dashboard session that was over is used again: it is active from now on."""

    session_id: str
    reset_at: datetime
