"""Lines of Claude Code's transcripts that say nothing about the work: no reader looks at them, so no client need send them."""

from __future__ import annotations

BOOKKEEPING = frozenset(
    {
        "queue-operation", "last-prompt", "tools-used", "mode", "atis-latch", "api-request", "api-request-shape",
        "api-request-blob", "file-history-snapshot", "progress", "permission-mode", "agent-name", "agent-color",
        "agent-setting", "tag", "worktree-state", "content-replacement",
    }
)  # fmt: skip
