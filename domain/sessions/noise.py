"""Telemetry that is taken and not stored.

Agents log their own plumbing at a volume that dwarfs what they did (in the recordings, 244 of 341 Claude log records are
`hook_registered`), and it says nothing a fold would use.  It is counted as accepted, so that no sender tries again.
Dropped: Claude's registrations of hooks and plugins and the starts of hook runs (their completions are kept); Codex' events
of single stream chunks (the completed response is kept) and its start-up phases; debug lines in which an agent's exporter
speaks of itself: refusing those would make it speak again.  Nothing else: what cannot be filed is refused, so that its
sender learns of it.
"""

from __future__ import annotations

from domain.sessions.split import TelemetryLike

_DROPPED = frozenset(
    {"hook_registered", "plugin_loaded", "hook_execution_start", "hook_plugin_metrics", "codex.startup_phase"}
)
_CHUNKS = frozenset({"codex.sse_event", "codex.websocket_event"})
_EXPORTERS = ("codex_otel", "opentelemetry")  # scopes, as a library names its own modules
_KEPT_CHUNKS = frozenset({"response.failed", "error"})


def is_noise(record: TelemetryLike) -> bool:
    """Whether a record is taken and forgotten."""
    if record.signal != "log":
        return False
    name, attributes = record.name.removeprefix("claude_code."), record.attributes
    if name in _DROPPED:
        return True
    if name in _CHUNKS:
        return "input_token_count" not in attributes and attributes.get("event.kind") not in _KEPT_CHUNKS
    return not attributes and record.scope.startswith(_EXPORTERS)
