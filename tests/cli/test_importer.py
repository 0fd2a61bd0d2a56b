"""`crewkit import`: every line that matters once, nothing that is the vendor's, and it goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.capture.config import Config, Content, save
from cli.capture.paths import ClientDir
from cli.capture.transcripts import CHUNK_LINES_MAX, chunks, discover
from domain.sessions.split import reduce
from tests.cli.conftest import RECORDINGS, Service, crewkit

SESSION = "0447534f-4168-45f3-a089-5808b6b5dc70"


@pytest.fixture
def projects(paths: ClientDir, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Claude's projects folder with one recorded session, as the agent lays it out."""
    connection = service.connection()
    monkeypatch.setenv("CREWKIT_URL", connection.url)
    monkeypatch.setenv("CREWKIT_API_KEY", connection.api_key)
    monkeypatch.setenv("CREWKIT_ORGANIZATION", connection.organization)
    folder = tmp_path / "projects" / "-home-dev-proj"
    (folder / SESSION).mkdir(parents=True)
    shutil.copy(RECORDINGS / "claude-0447534f" / "transcript.jsonl", folder / f"{SESSION}.jsonl")
    shutil.copytree(RECORDINGS / "claude-0447534f" / "subagents", folder / SESSION / "subagents")
    return tmp_path / "projects"


def line(number: int, **more: Any) -> str:
    told = {"type": "user", "uuid": f"u{number}", "sessionId": "s-1", "timestamp": "2026-11-20T21:13:05.244Z", **more}
    return json.dumps({**told, "message": {"role": "user", "content": f"word {number}"}}) + "\n"


def uuids(service: Service, session: str = "s-1") -> list[str]:
    return [item["uuid"] for item in service.items.get(session, [])]


def test_a_recorded_session_arrives_with_its_subagent(projects: Path, service: Service) -> None:
    crewkit("import", str(projects))
    kinds = [item["type"] for item in service.items[SESSION]]
    assert kinds.count("cost-state") == 1
    assert set(kinds) == {"user", "assistant", "cost-state"}
    inner = [body for path, _, body in service.requests if body.get("subagent_id")]
    assert [body["subagent_id"] for body in inner] == ["adee5da92b0b2d1ec"]
    assert inner[0]["meta"]["agentType"] == "general-purpose"
    assert "description" not in inner[0]["meta"]  # free text stays at level structure
    assert inner[0]["content_level"] == "structure"
    total = next(item for item in service.items[SESSION] if item["type"] == "cost-state")
    assert total["totalCostUSD"] == pytest.approx(0.082936)


def test_again_sends_nothing_and_to_another_service_everything(
    projects: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    crewkit("import", str(projects))
    posts = service.posts
    assert "2 without news" in crewkit("import", str(projects)).stdout
    assert service.posts == posts
    assert "0 new" in crewkit("import", str(projects), "--again").stdout
    monkeypatch.setenv("CREWKIT_API_KEY", "ck_other")
    posts = service.posts
    crewkit("import", str(projects))
    assert service.posts > posts


def test_a_file_that_grew_goes_on_and_one_that_was_replaced_begins_anew(
    projects: Path, service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(line(1) + line(2))
    crewkit("import", str(path))
    with path.open("a") as file:
        file.write(line(3) + line(4)[:30])  # the agent is still writing the last line
    crewkit("import", str(path))
    assert uuids(service) == ["u1", "u2", "u3"]
    with path.open("a") as file:
        file.write(line(4)[30:])
    crewkit("import", str(path))
    assert uuids(service) == ["u1", "u2", "u3", "u4"]
    path.write_text(line(7) + line(8) + line(9) + line(10) + line(11))
    crewkit("import", str(path))
    assert uuids(service)[4:] == ["u7", "u8", "u9", "u10", "u11"]


def test_interrupted_it_goes_on_after_the_last_answer(projects: Path, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text("".join(line(n) for n in range(CHUNK_LINES_MAX + 50)))
    service.answer = lambda _path, _body: (
        (503, {"error": {"code": "x", "message": "later"}}) if service.posts > 1 else None
    )
    crewkit("import", str(path), check=1)
    assert len(uuids(service)) == CHUNK_LINES_MAX
    service.answer = lambda _path, _body: None
    crewkit("import", str(path))
    assert uuids(service) == [f"u{n}" for n in range(CHUNK_LINES_MAX + 50)]


def many(folder: Path, files: int) -> Path:
    """Transcripts of several lines each, more than travel in one request."""
    folder.mkdir()
    for n in range(files):
        (folder / f"f{n:03}.jsonl").write_text("".join(line(n * 100 + m, sessionId=f"s-{n}") for m in range(40)))
    return folder


def test_many_files_travel_together(projects: Path, service: Service, tmp_path: Path) -> None:
    told = json.loads(crewkit("import", str(many(tmp_path / "many", 100)), "--json").stdout)
    assert (told["files"], told["accepted"], told["sessions"]) == (100, 4_000, 100)
    assert service.posts == 3
    for n in range(100):
        assert uuids(service, f"s-{n}") == [f"u{n * 100 + m}" for m in range(40)]
    shown = [json.loads(text) for text in crewkit("sent", "--session", "s-7", "--json").stdout.splitlines()]
    assert [len(entry["records"]) for entry in shown] == [40]


def test_files_of_a_request_without_an_answer_are_sent_again(projects: Path, service: Service, tmp_path: Path) -> None:
    folder = many(tmp_path / "many", 100)
    later = (503, {"error": {"code": "x", "message": "later"}})
    service.answer = lambda path, body: (
        later if any(b["llm_session_id"] == "s-60" for b in body.get("batches", ())) else None
    )
    crewkit("import", str(folder), check=1)
    known = len(service.items)
    assert 0 < known < 100
    service.answer = lambda _path, _body: None
    told = json.loads(crewkit("import", str(folder), "--json").stdout)
    assert (told["unchanged"], told["accepted"], told["duplicate"]) == (known, 4_000 - 40 * known, 0)


def test_one_line_that_is_never_taken_costs_nobody_else(
    projects: Path, paths: ClientDir, service: Service, tmp_path: Path
) -> None:
    folder = many(tmp_path / "many", 20)
    bad = (400, {"error": {"code": "validation_failed", "message": "no"}})
    service.answer = lambda _path, body: bad if b'"u705"' in json.dumps(body).encode() else None
    told = json.loads(crewkit("import", str(folder), "--json", check=1).stdout)
    assert (told["accepted"], told["rejected"]) == (799, 1)
    (kept,) = paths.rejected.glob("*.jsonl")
    assert b"u705" in kept.read_bytes()
    assert "20 without news" in crewkit("import", str(folder)).stdout


def test_an_answer_that_does_not_speak_of_every_file_is_none(projects: Path, service: Service, tmp_path: Path) -> None:
    folder = many(tmp_path / "many", 3)
    service.answer = lambda _path, _body: (202, {"position": 1, "answers": []})
    assert "accounted for 0 of 3" in crewkit("import", str(folder), check=3).stderr
    service.answer = lambda _path, _body: None
    assert "120 new" in crewkit("import", str(folder)).stdout


def test_bad_lines_are_counted_and_harm_nobody(projects: Path, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    odd = json.dumps({"type": 7, "uuid": "u5", "sessionId": "s-1"}) + "\n"
    path.write_text(line(1) + "{broken\n\n[1,2]\n" + '"text"\n' + odd + "\x00\xff\n" + line(2))
    told = json.loads(crewkit("import", str(path), "--json").stdout)
    assert (told["bad"], told["accepted"]) == (4, 3)
    assert uuids(service) == ["u1", "u5", "u2"]


def test_vendor_text_never_leaves_even_at_level_full(
    projects: Path, paths: ClientDir, service: Service, tmp_path: Path
) -> None:
    save(paths, Config(content=Content(default="full")))
    path = tmp_path / "s.jsonl"
    vendor = "VENDOR PROMPT TEXT"
    kept = [line(1), line(2)]
    left = [
        json.dumps(
            {
                "type": "attachment",
                "uuid": "a",
                "sessionId": "s-1",
                "attachment": {"type": "prompt_snapshot", "x": vendor},
            }
        ),
        json.dumps({"type": "api-request-blob", "sessionId": "s-1", "message": vendor}),
        json.dumps({"type": "api-request-shape", "sessionId": "s-1", "shape": vendor}),
    ]
    path.write_text(kept[0] + "\n".join(left) + "\n" + kept[1])
    rollout = tmp_path / "rollout-2026-11-20T21-44-52-01a1faeb-61fe-7383-85d4-caa6af42507f.jsonl"
    records = [
        {
            "type": "session_meta",
            "payload": {"id": "01a1faeb-61fe-7383-85d4-caa6af42507f", "base_instructions": {"text": vendor}},
        },
        {"type": "turn_context", "payload": {"model": "m", "user_instructions": vendor}},
        {"type": "world_state", "payload": {"text": vendor}},
        {"type": "response_item", "payload": {"type": "message", "role": "developer", "content": vendor}},
        {"type": "response_item", "payload": {"type": "message", "role": "user", "content": "my own words"}},
    ]
    rollout.write_text(
        "".join(
            json.dumps({"timestamp": "2026-11-20T21:44:52.569Z", "ordinal": n, **r}) + "\n"
            for n, r in enumerate(records)
        )
    )
    crewkit("import", str(path), str(rollout))
    told = json.dumps([body for _, _, body in service.requests])
    assert vendor not in told
    assert "my own words" in told
    assert "word 2" in told
    assert len(service.items["01a1faeb-61fe-7383-85d4-caa6af42507f"]) == 3


def test_the_note_that_a_limit_of_turns_was_reached_leaves(projects: Path, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    note = {
        "parentUuid": "9de80ad8-b2ee-42c2-b97f-f52027853164",
        "isSidechain": False,
        "attachment": {"type": "max_turns_reached", "maxTurns": 2, "turnCount": 3},
        "type": "attachment",
        "uuid": "limit",
        "sessionId": "s-1",
    }
    path.write_text(line(1) + json.dumps(note, separators=(",", ":")) + "\n" + line(2))
    crewkit("import", str(path))
    assert uuids(service) == ["u1", "limit", "u2"]


def test_redaction_and_levels_hold(projects: Path, paths: ClientDir, service: Service, tmp_path: Path) -> None:
    secret = "glpat-" + "AbCdEf123456-_7890xy"
    save(paths, Config(content=Content(projects={"/open": "full"})))
    for name, cwd in (("a", "/open/x"), ("b", "/closed")):
        text = line(1, cwd=cwd, sessionId=f"s-{name}").replace("word 1", f"use {secret} please")
        (tmp_path / f"{name}.jsonl").write_text(text)
    crewkit("import", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    (opened,), (closed,) = service.items["s-a"], service.items["s-b"]
    assert opened["message"]["content"] == "use [redacted:gitlab-token] please"
    assert "content" not in closed["message"]
    assert closed["crewkit"]["derived"]["prompt_chars"] == len(f"use {secret} please")


def test_codex_sessions_come_from_their_folder(projects: Path, service: Service, tmp_path: Path) -> None:
    place = tmp_path / "codex" / "sessions" / "2026" / "11" / "20"
    place.mkdir(parents=True)
    ident = "01a1faeb-61fe-7383-85d4-caa6af42507f"
    shutil.copy(RECORDINGS / "codex" / "rollout.jsonl", place / f"rollout-2026-11-20T21-44-52-{ident}.jsonl")
    crewkit("import", str(tmp_path / "codex" / "sessions"))
    assert sum(item["type"] == "token_usage_record" for item in service.items[ident]) == 3
    assert {body["agent"] for _, _, body in service.requests} == {"codex"}


def test_a_dry_run_sends_and_remembers_nothing_and_since_leaves_files_out(projects: Path, service: Service) -> None:
    assert "would leave" in crewkit("import", str(projects), "--dry-run").stdout
    assert "0 files" in crewkit("import", str(projects), "--since", "2199-01-01T00:00:00Z").stdout
    assert service.posts == 0
    crewkit("import", str(projects), "--since", "1d")
    assert service.posts == 1
    assert SESSION in service.items


def test_a_service_that_is_away_is_exit_code_three(projects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREWKIT_URL", "http://127.0.0.1:9")
    assert "Cannot reach" in crewkit("import", str(projects), check=3).stderr


def test_what_leaves_is_what_the_domain_says(projects: Path) -> None:
    """The reader may take short cuts; the result is `reduce`'s, for every kept line of every recording."""
    for path in RECORDINGS.glob("claude-*/**/*.jsonl"):
        if path.name.startswith(("otlp", "hooks")):
            continue
        originals = {
            record["uuid"]: record for record in map(json.loads, path.read_bytes().splitlines()) if "uuid" in record
        }
        for source in discover([path]):
            for chunk in chunks(source, None, Config()):
                for kept in map(json.loads, chunk.lines):
                    if "uuid" in kept:
                        assert kept == reduce(originals[kept["uuid"]], "transcript", "claude", "structure")
