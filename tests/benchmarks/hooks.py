"""Hook events for load: a recorded session, repeated with other ids, cut into requests by replacing a few tokens.

Building a request of 100 events costs the load generator three `bytes.replace` calls (about 50 µs), so that it does not eat
the cores of the system it measures.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

RECORDING = Path(__file__).resolve().parents[1] / "recordings" / "claude-0447534f" / "hooks.jsonl"
SESSION_EVENTS = 200  # a working session of an hour or two; the recorded one has 32
SESSION = "S" * 12  # replaced by the session's number
BATCH = "B" * 8  # replaced by the request's number
NOW = "N" * 10  # replaced by epoch seconds
_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|toolu_[0-9a-z]{24}|a[0-9a-f]{16}")


def script(events: int = SESSION_EVENTS) -> list[str]:
    """Payload texts of one session: its opening, the recorded work repeated with fresh ids, its end."""
    recorded = [json.loads(text)["payload"] for text in RECORDING.read_text().splitlines()]
    opening, work, ending = recorded[:2], recorded[2:-1], recorded[-1:]
    chosen = [(payload, 0) for payload in opening]
    chosen += [(work[i % len(work)], i // len(work)) for i in range(events - len(opening) - len(ending))]
    chosen += [(payload, 0) for payload in ending]
    return [_tokens(payload, cycle) for payload, cycle in chosen]


def _tokens(payload: dict[str, Any], cycle: int) -> str:
    session = payload["session_id"]

    def vary(match: re.Match[str]) -> str:
        known = match[0]
        return known[:-12] + (SESSION if known == session else f"{BATCH}{cycle:04x}")

    return _IDS.sub(vary, json.dumps(payload, separators=(",", ":")))


def envelope(payload: str, index: int) -> str:
    """One captured event as the developer's side posts it: `index` is its place in the session."""
    return (
        f'{{"id":"{BATCH}-{index:04x}-7000-8000-{SESSION}","captured_at":{NOW}.{index:03d},"agent":"claude",'
        f'"repo":"acme/shop","branch":"main","payload":{payload}}}'
    )


def bodies(batch_events: int) -> list[bytes]:
    """The request bodies of one session, in order, with tokens still in them."""
    texts = [envelope(payload, index) for index, payload in enumerate(script())]
    cut = [texts[i : i + batch_events] for i in range(0, len(texts), batch_events)]
    return [('{"events":[' + ",".join(part) + "]}").encode() for part in cut]


def fill(body: bytes, session: int, request: int, now_s: int) -> bytes:
    """A body with its tokens replaced: the same session number in all requests of a session."""
    return (
        body.replace(SESSION.encode(), b"%012x" % session)
        .replace(BATCH.encode(), b"%08x" % request)
        .replace(NOW.encode(), b"%010d" % now_s)
    )


def payload_bytes() -> float:
    """Mean size of a payload, for notes."""
    texts = script()
    return sum(map(len, texts)) / len(texts)
