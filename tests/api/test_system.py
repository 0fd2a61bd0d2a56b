"""The promises about bad input and reads, kept by the whole system: `crewkit up` with API, relay and projectors as processes."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.house import body, hook
from tests.api.test_otlp import JSON, PROTOBUF, as_protobuf, log, request
from workers.local.instance import Instance, read_instance

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("system")]

LAUNCHER = str(Path(__file__).parents[2] / "crewkit.py")
RECORDINGS = Path(__file__).parents[1] / "recordings"
START_S = 120
WAIT_S = 30
BODY_BYTES_MAX = 1_000_000
CODEX = "01a1faeb-61fe-7383-85d4-caa6af42507f"
CLAUDE = "0447534f-4168-45f3-a089-5808b6b5dc70"


def crewkit(*words: str, **env: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CREWKIT_")}
    done = subprocess.run(
        [sys.executable, "-I", LAUNCHER, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=START_S,
        env=clean | env,
        cwd="/",
    )
    assert done.returncode == 0, done.stdout + done.stderr


class System:
    """A client of the running system; every request carries its key, every read waits for what was sent before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http = httpx.Client(base_url=self.instance.url, timeout=WAIT_S)
        self.base = f"/api/v1/{self.instance.organization}"
        self.headers = {"X-API-Key": self.instance.api_key}
        self.position = 0

    @property
    def instance(self) -> Instance:
        found = read_instance(self.folder)
        assert found is not None
        return found

    def post(self, path: str, content: bytes, **headers: str) -> httpx.Response:
        answer = self.http.post(path, content=content, headers=self.headers | headers)
        self.position = max(self.position, int(answer.headers.get("crewkit-position", 0)))
        return answer

    def send(self, *events: dict[str, Any]) -> dict[str, Any]:
        answer = self.post(f"{self.base}/observability/events", body({"events": list(events)}))
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def get(self, path: str, **query: Any) -> Any:
        answer = self.http.get(path, params=query or None, headers=self.headers | {"Crewkit-After": str(self.position)})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ids(self, **query: Any) -> list[str]:
        return [item["id"] for item in self.get(f"{self.base}/sessions", **query)["items"]]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    root = Path(tempfile.mkdtemp(prefix="crewkit-system-"))
    root.chmod(0o711)
    folder = root / "data"
    words = ("up", "--data-dir", str(folder), "--port", "0", "--detach")
    try:
        crewkit(*words, CREWKIT_BODY_BYTES_MAX=str(BODY_BYTES_MAX), CREWKIT_READ_AFTER_WAIT_S=str(WAIT_S))
        system = System(folder)
        yield system
        system.http.close()
    finally:
        crewkit("down", "--data-dir", str(folder))
        shutil.rmtree(root, ignore_errors=True)


def envelope(session: str, kind: str = "UserPromptSubmit", **around: Any) -> dict[str, Any]:
    """One hook with an id of its own; `around` are fields of the envelope, `fields` those of the payload."""
    fields = around.pop("fields", {})
    return {"payload": hook(session, kind, **fields), "id": str(uuid4()), "at": datetime.now(UTC), **around}


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (b"{", "$"),
        (b'{"events": 7}', "$.events"),
        (b'{"events": [{"payload": {}}, {"payload": []}]}', "$.events[1].payload"),
        (b'{"events": [{"payload": {}, "at": "soon"}]}', "$.events[0].at"),
        (b'{"events": [{"payload": {}, "user": {"email": 1}}]}', "$.events[0].user.email"),
        (b'{"events": [{"payload": {}, "surprise": 1}]}', "$.events[0].surprise"),
        (b"[" * 100_000, "$"),
    ],
)
def test_a_malformed_body_is_refused_with_the_path_of_the_field(system: System, sent: bytes, field: str) -> None:
    answer = system.post(f"{system.base}/observability/events", sent)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["details"]["field"]) == (400, "validation_failed", field)
    assert error["request_id"] == answer.headers["x-request-id"]
    assert field in answer.json()["message"] or field == "$"


def test_oversize_is_413_also_when_it_is_zipped_small(system: System) -> None:
    path = f"{system.base}/observability/events"
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < BODY_BYTES_MAX
    chunks = (b" " * 100_000 for _ in range(20))
    for answer in (
        system.post(path, b" " * (BODY_BYTES_MAX + 1)),
        system.post(path, bomb, **{"Content-Encoding": "gzip"}),
        system.http.post(path, content=chunks, headers=system.headers),
        system.post("/v1/logs", bomb, **{"Content-Encoding": "gzip"}, **JSON),
    ):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "too_large"
        assert answer.json()["error"]["details"]["limit_bytes"] == BODY_BYTES_MAX
    broken = system.post(path, bomb[:100], **{"Content-Encoding": "gzip"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "validation_failed")
    assert system.post(path, b"x", **{"Content-Encoding": "br"}).status_code == 415


def test_a_large_payload_is_cut_marked_and_hashed(system: System) -> None:
    prompt = "".join(f"{number:09}" for number in range(20_000))
    system.send(envelope("large", fields={"prompt": prompt}))
    (item,) = system.get(f"{system.base}/observability/llm_sessions/large/items")["items"]
    assert item["cut_bytes"] > 100_000
    assert len(item["sha256"]) == 64
    assert len(json.dumps(item["content"])) <= 64 * 1024
    assert item["content"]["prompt"][:100] == prompt[:100]
    whole = envelope("small", fields={"prompt": "short"})
    system.send(whole)
    (item,) = system.get(f"{system.base}/observability/llm_sessions/small/items")["items"]
    assert (item["cut_bytes"], item["content"]["prompt"]) == (0, "short")


def test_the_hash_of_what_was_cut_is_that_of_the_whole(system: System) -> None:
    prompt = "x" * 100_000
    system.send(envelope("hashed", fields={"prompt": prompt}))
    (item,) = system.get(f"{system.base}/observability/llm_sessions/hashed/items")["items"]
    whole = json.dumps({"cwd": "/work", "prompt": prompt}, separators=(",", ":")).encode()
    assert item["sha256"] == hashlib.sha256(whole).hexdigest()


def test_unknown_hook_kinds_are_stored_and_shown_as_unknown(system: System) -> None:
    told = system.send(envelope("odd", "QuantumLeap", fields={"spin": "up"}), envelope("odd"))
    assert told["accepted"] == 2
    detail = system.get(f"{system.base}/sessions/odd")
    assert detail["llm_sessions"][0]["unknown_kinds"] == {"QuantumLeap": 1}
    items = system.get(f"{system.base}/observability/llm_sessions/odd/items")["items"]
    assert [item["kind"] for item in items] == ["QuantumLeap", "UserPromptSubmit"]
    assert items[0]["content"]["spin"] == "up"


def test_every_event_of_a_batch_has_its_own_result(system: System) -> None:
    first, second = envelope("each"), envelope("each")
    told = system.send(first, {"payload": {"hook_event_name": "Stop"}}, first, second)
    assert [(one["index"], one["status"]) for one in told["results"]] == [
        (0, "accepted"),
        (1, "rejected"),
        (2, "duplicate"),
        (3, "accepted"),
    ]
    assert "session_id" in told["results"][1]["reason"]
    assert (told["accepted"], told["duplicate"], told["rejected"]) == (2, 1, 1)
    assert system.send(second)["duplicate"] == 1


def test_telemetry_is_taken_in_both_encodings_with_partial_success(system: System) -> None:
    tree = request(log("otel", 1), log(None))
    plain = system.post("/v1/logs", gzip.compress(body(tree)), **JSON, **{"Content-Encoding": "gzip"})
    assert (plain.status_code, plain.json()["partialSuccess"]["rejectedLogRecords"]) == (200, "1")
    packed = gzip.compress(as_protobuf("logs", request(log("otel", 2), log("otel", 1))))
    binary = system.post("/v1/logs", packed, **PROTOBUF, **{"Content-Encoding": "gzip"})
    assert (binary.status_code, binary.content) == (200, b"")
    assert len(system.get(f"{system.base}/observability/llm_sessions/otel/items")["items"]) == 2
    wrong = system.post("/v1/logs", b"\xff", **PROTOBUF)
    assert (wrong.status_code, wrong.headers["content-type"]) == (400, "application/x-protobuf")


# ------------------------------------------------------------------------------------------------------------ recordings


def replay(system: System, folder: Path, session: str, agent: str, transcript: str, **around: Any) -> None:
    lines = [json.loads(line) for line in (folder / "hooks.jsonl").read_bytes().splitlines()]
    hooks = [one if "payload" in one else {"payload": one, "id": f"{session}-{n}"} for n, one in enumerate(lines)]
    system.send(*({**one, "agent": agent, **around} for one in hooks))
    for signal_name in ("logs", "metrics", "traces"):
        path = folder / f"otlp_{signal_name}.jsonl"
        for line in path.read_bytes().splitlines() if path.exists() else []:
            assert system.post(f"/v1/{signal_name}", line, **JSON).json() == {}
    items = [json.loads(line) for line in (folder / transcript).read_bytes().splitlines()]
    sent = body({"items": items, "agent": agent})
    answer = system.post(f"{system.base}/observability/llm_sessions/{session}/items", sent)
    assert (answer.status_code, answer.json()["rejected"]) == (202, 0)
    again = system.post(f"{system.base}/observability/llm_sessions/{session}/items", sent).json()
    assert (again["accepted"], again["duplicate"]) == (0, len(items))


def test_a_codex_session_comes_in_by_all_three_channels(system: System) -> None:
    replay(system, RECORDINGS / "codex", CODEX, "codex", "rollout.jsonl")
    detail = system.get(f"{system.base}/sessions/{CODEX}")
    (llm,) = detail["llm_sessions"]
    assert (llm["agent"], llm["agent_version"], llm["model"]) == ("codex", "0.169.0", "gpt-5.5")
    assert {channel for channel, count in llm["facts"].items() if count} >= {"hook", "telemetry", "transcript"}
    assert detail["session"]["counts"]["prompts"] == 1
    assert detail["session"]["counts"]["model_calls"] > 0
    assert detail["session"]["tokens"]["output"] > 0


def test_a_claude_session_comes_in_by_all_three_channels_and_reconciles(system: System) -> None:
    folder = RECORDINGS / "claude-0447534f"
    replay(system, folder, CLAUDE, "claude", "transcript.jsonl", repo="acme/shop", branch="main")
    before = system.get(f"{system.base}/sessions/{CLAUDE}")
    assert before["cost"]["cost_usd_micros"] > 0
    assert before["session"]["counts"]["subagents"] > 0
    assert before["tree"]["children"]
    learned = system.get(f"{system.base}/sessions/{CLAUDE}/insights")
    assert (learned["generated_by"], learned["ai"]) == ("rules", None)
    spent = learned["efficiency"]["cost_per_turn_usd_micros"]
    assert spent["part"] == before["cost"]["cost_usd_micros"]
    assert learned["efficiency"]["tool_time_share"]["value"] is not None
    assert learned["summary"].startswith(("Completed after", "Under way after"))
    replay(system, folder, CLAUDE, "claude", "transcript.jsonl", repo="acme/shop", branch="main")
    after = system.get(f"{system.base}/sessions/{CLAUDE}")
    assert (after["cost"], after["session"]["tokens"]) == (before["cost"], before["session"]["tokens"])


# ------------------------------------------------------------------------------------------------------------ lists


def test_every_filter_of_the_list_finds_and_leaves_out(system: System) -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    mine = {
        "repo": "acme/filters",
        "branch": "feature/x",
        "project": "filters",
        "user": {"email": "Ada@Example.org", "name": "Ada"},
    }
    system.send(
        envelope("filtered", at=at, fields={"prompt": "paint the zeppelin"}, **mine),
        envelope("filtered", "Stop", at=at + timedelta(seconds=5), **mine),
    )
    line = {
        "type": "assistant",
        "uuid": str(uuid4()),
        "requestId": "req_filtered",
        "timestamp": "2026-03-01T12:00:03Z",
        "sessionId": "filtered",
        "message": {
            "id": "msg_filtered",
            "model": "claude-filter-9",
            "role": "assistant",
            "content": [],
            "usage": {"input_tokens": 1, "output_tokens": 2},
        },
    }
    system.post(f"{system.base}/observability/llm_sessions/filtered/items", body({"items": [line]}))
    person = system.get(f"{system.base}/sessions/filtered")["session"]["person_id"]
    stamp = at.isoformat().replace("+00:00", "Z")
    later = (at + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    status = system.get(f"{system.base}/sessions/filtered/live")["status"]
    cases: list[tuple[str, str, str]] = [
        ("status", status, "ended"),
        ("user", "ada@example.org", "bob@example.org"),
        ("user", person, str(uuid4())),
        ("project", "filters", "filter"),
        ("repo", "acme/filters", "acme/other"),
        ("branch", "feature/x", "feature"),
        ("model", "claude-filter-9", "claude-filter-8"),
        ("agent", "claude", "codex"),
        ("since", stamp, later),
        ("until", later, stamp),
        ("text", "zeppelin", "airship"),
        ("text", "paint zepp", "zeppelin airship"),
    ]
    for name, found, missed in cases:
        others = {"repo": "acme/filters"} if name != "repo" else {}
        assert system.ids(**{**others, name: found}) == ["filtered"], (name, found)
        assert system.ids(**{**others, name: missed}) == [], (name, missed)
    everything = {name: found for name, found, _ in cases}
    assert system.ids(**everything) == ["filtered"]


@pytest.mark.parametrize(
    "query", ["status=nonsense", "outcome=nonsense", "since=soon", "user=x", "limit=0", "limit=1e3"]
)
def test_a_filter_that_cannot_mean_anything_is_named(system: System, query: str) -> None:
    answer = system.http.get(f"{system.base}/sessions?{query}", headers=system.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_failed")
    assert query.partition("=")[0] in answer.json()["message"]


def test_pages_hang_together_while_new_sessions_arrive(system: System) -> None:
    names = [f"page-{number}" for number in range(7)]
    system.send(*(envelope(name, repo="acme/pages") for name in names))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for page in range(3):
        told = system.get(f"{system.base}/sessions", repo="acme/pages", limit=3, **cursor)
        seen += [item["id"] for item in told["items"]]
        if page == 0:
            system.send(envelope("page-new", repo="acme/pages"))
        if told["next_cursor"] is not None:
            assert "cursor=" in told["_links"]["next"]
            cursor = {"cursor": told["next_cursor"]}
    assert told["next_cursor"] is None
    assert len(seen) == len(set(seen))
    assert set(seen) == set(names)
    odd = system.http.get(f"{system.base}/sessions?cursor=%21", headers=system.headers)
    assert (odd.status_code, odd.json()["error"]["details"]["field"]) == (400, "cursor")


def test_a_writer_reads_its_own_writes(system: System) -> None:
    for number in range(20):
        system.send(envelope(f"own-{number}"))
        assert system.get(f"{system.base}/sessions/own-{number}")["session"]["id"] == f"own-{number}"
    for wrong in ("soon", "-1", "9" * 30):
        headers = system.headers | {"Crewkit-After": wrong}
        assert system.http.get(f"{system.base}/sessions", headers=headers).status_code == 400


# ------------------------------------------------------------------------------------------------------------ live


def frames(answer: httpx.Response) -> Iterator[tuple[str, int, Any]]:
    name, ident = "", -1
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("id: "):
            ident = int(line[4:])
        elif line.startswith("data: "):
            yield name, ident, json.loads(line[6:])


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def answers(system: System) -> bool:
    try:
        return system.http.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.crash
@pytest.mark.parametrize("scope", ["session", "organization"])
def test_a_stream_resumes_where_it_was_after_the_api_was_killed(system: System, scope: str) -> None:
    ours, other = f"live-{scope}", f"other-{scope}"
    path = f"{system.base}/events/stream" if scope == "organization" else f"{system.base}/sessions/{ours}/events/stream"
    wanted = {ours} if scope == "session" else {ours, other}
    with system.http.stream("GET", path, headers=system.headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = frames(answer)
        assert next(told)[0] == "open"
        system.send(envelope(other), envelope(ours))
        while (last := next(told))[2].get("session_id") != ours:
            assert last[2].get("session_id") in wanted
        name, ident, data = last
        assert (name, data["session_id"]) == ("notice", ours)
        assert system.http.get(f"{system.base}/sessions/{ours}", headers=system.headers).status_code == 200
        os.kill(system.instance.pids["api"], signal.SIGKILL)
        with contextlib.suppress(httpx.TransportError):  # cut off in the middle, or seen as the end
            deque(told, maxlen=0)
    until(lambda: answers(system), "the API did not come back")
    missed = []
    for number in range(5):
        # One after the other: the two streams of one request may be stored in either order.
        system.send(envelope(other, fields={"prompt": f"{number}"}))
        system.send(envelope(ours, fields={"prompt": f"{number}"}))
        missed.append(system.position)
    with system.http.stream("GET", path, headers=system.headers | {"Last-Event-ID": str(ident)}) as answer:
        told = frames(answer)
        assert next(told)[0] == "open"
        positions: list[int] = []
        while not positions or positions[-1] < missed[-1]:
            name, position, data = next(told)
            assert name == "notice"
            assert data["session_id"] in wanted
            positions.append(position)
    assert positions == sorted(set(positions))
    assert set(missed) <= set(positions)


# ------------------------------------------------------------------------------------------------------------ history


def test_history_answers_by_stream_type_actor_and_time_also_as_it_was(system: System) -> None:
    system.send(envelope("told", fields={"prompt": "one"}))
    first = system.position
    noted = datetime.now(UTC)
    time.sleep(0.01)  # the clock of the database is the clock of this machine; the two facts get different times
    system.send(envelope("told", "Stop"))
    events = f"{system.base}/events"

    def positions(**query: Any) -> list[int]:
        return [item["position"] for item in system.get(events, stream="LlmSession:told", **query)["items"]]

    second = system.position
    both = positions()
    assert both[0] <= first < both[-1] <= second
    kinds = {item["type"] for item in system.get(events, stream="LlmSession:told")["items"]}
    assert kinds == {"hook.recorded.v1"}
    assert positions(type="hook.recorded.v1") == both
    assert positions(type="session.started.v1") == []
    (actor,) = {item["meta"]["actor"] for item in system.get(events, stream="LlmSession:told")["items"]}
    assert actor.startswith("key:")
    assert positions(actor=actor) == both
    assert positions(actor="system:operator") == []
    assert (
        positions(as_of=first) == positions(as_of=noted.isoformat()) == positions(until=noted.isoformat()) == both[:1]
    )
    assert positions(since=noted.isoformat()) == both[1:]
    assert positions(order="newest", limit=1) == both[-1:]
    item = system.get(events, stream="LlmSession:told")["items"][0]
    one = system.get(f"{events}/{item['event_id']}")
    assert one == item
    assert one["data"]["content"]["prompt"] == "one"
    missing = system.http.get(f"{events}/{uuid4()}", headers=system.headers)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_the_audit_view_shows_the_same_events_in_words(system: System) -> None:
    opened = system.post(f"{system.base}/observability/sessions", body({"session_id": "audited"}))
    assert opened.status_code == 201
    (entry,) = system.get(f"{system.base}/audit_logs", resource="Session:audited")["items"]
    assert (entry["action"], entry["resource_type"], entry["resource_id"]) == ("session.started", "Session", "audited")
    assert entry["request_id"] == opened.headers["x-request-id"]
    event = system.get(f"{system.base}/events/{entry['event_id']}")
    assert (event["position"], event["meta"]["actor"]) == (entry["position"], entry["actor"])
    assert system.get(f"{system.base}/audit_logs", action="session.ended", resource="Session:audited")["items"] == []
    assert system.get(f"{system.base}/audit_logs/{entry['event_id']}") == entry
