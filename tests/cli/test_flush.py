"""The flusher: everything captured arrives once, in order, whatever dies in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.capture import spool
from cli.capture.config import Config, Content, save
from cli.capture.flusher import State
from cli.capture.paths import ClientDir
from cli.capture.shipping import BACKOFF_MAX_S, backoff_s
from tests.cli.conftest import PROGRAM, Service, crewkit, no_flusher


def capture(paths: ClientDir, number: int, at_ns: int | None = None, **more: Any) -> None:
    """Put a payload where the hook puts it, with the time of capture of our choice."""
    told = {
        "session_id": "s",
        "hook_event_name": "PreToolUse",
        "tool_use_id": f"t{number}",
        "tool_name": "Bash",
        **more,
    }
    path = paths.incoming / f"claude.{4_000_000 + number}"
    fresh = paths.home / "fresh"
    fresh.write_bytes(json.dumps(told).encode())
    moment = at_ns if at_ns is not None else 1_790_000_000_000_000_000 + number * 1_000_000
    os.utime(fresh, ns=(moment, moment))  # before it shows: the time is a part of the id
    fresh.rename(path)


@pytest.fixture
def env(paths: ClientDir, service: Service, monkeypatch: pytest.MonkeyPatch) -> ClientDir:
    """Our program finds the service."""
    connection = service.connection()
    monkeypatch.setenv("CREWKIT_URL", connection.url)
    monkeypatch.setenv("CREWKIT_API_KEY", connection.api_key)
    monkeypatch.setenv("CREWKIT_ORGANIZATION", connection.organization)
    paths.beat.unlink()
    return paths


def ids(service: Service) -> list[str]:
    return [event["payload"]["tool_use_id"] for event in service.acknowledged]


def test_events_arrive_in_order_of_capture_with_id_time_and_place(env: ClientDir, service: Service) -> None:
    for number in (3, 1, 2):
        capture(env, number)
    assert "3 sent" in crewkit("flush").stdout
    assert ids(service) == ["t1", "t2", "t3"]
    first = service.acknowledged[0]
    assert first["at"] == "2026-09-21T14:13:20.001000Z"
    assert len(first["id"]) == 36
    assert first["content_level"] == "structure"
    assert {key.lower() for key in service.requests[0][1]} >= {"x-api-key", "idempotency-key"}
    assert list(env.incoming.iterdir()) == list(env.segments.iterdir()) == []


def test_the_same_capture_has_the_same_id_however_often_it_is_read(paths: ClientDir) -> None:
    capture(paths, 1)
    assert spool.scan(paths)[0].id == spool.scan(paths)[0].id


def test_a_capture_that_is_still_written_to_waits_because_its_id_is_not_final(paths: ClientDir) -> None:
    capture(paths, 1)
    early = spool.scan(paths)
    os.utime(paths.incoming / early[0].name, ns=(5, 5))
    assert spool.Intake(paths).take(Config(identity=False), early) == 0
    assert spool.Intake(paths).take(Config(identity=False), spool.scan(paths)) == 1


def test_place_and_person_travel_but_not_at_level_counts(env: ClientDir, service: Service, tmp_path: Path) -> None:
    repository = tmp_path / "Shop Front"
    for command in (
        ["init", "-q", "-b", "topic/x", str(repository)],
        ["-C", str(repository), "config", "user.email", "ada@example.org"],
        ["-C", str(repository), "config", "user.name", "Ada"],
        ["-C", str(repository), "remote", "add", "origin", "https://user:secret@git.example.org/acme/shop.git"],
        ["-C", str(repository), "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *command], check=True)
    commit = subprocess.check_output(["git", "-C", str(repository), "rev-parse", "HEAD"], text=True).strip()
    (repository / "sub").mkdir()
    capture(env, 1, cwd=str(repository / "sub"))
    save(env, Config(content=Content(projects={str(repository / "closed"): "counts"})))
    (repository / "closed").mkdir()
    capture(env, 2, cwd=str(repository / "closed"))
    crewkit("flush")
    told = {key: service.acknowledged[0].get(key) for key in ("repo", "branch", "commit", "project", "user")}
    assert told == {
        "repo": "acme/shop", "branch": "topic/x", "commit": commit, "project": "shop-front",
        "user": {"email": "ada@example.org", "name": "Ada"},
    }  # fmt: skip
    assert not service.acknowledged[1].keys() & {"repo", "branch", "commit", "project", "user"}
    assert "tool_name" not in service.acknowledged[1]["payload"]


def test_levels_and_redaction_hold_on_the_wire(env: ClientDir, service: Service) -> None:
    save(env, Config(content=Content(projects={"/full": "full", "/full/but": "counts"})))
    secret = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
    for number, cwd in enumerate(("/x", "/full/a", "/full/but/b")):
        capture(env, number, cwd=cwd, tool_input={"command": f"echo {secret}", "note": "plain words"})
    crewkit("flush")
    sent = [json.dumps(event) for event in service.acknowledged]
    assert not any(secret in text for text in sent)
    assert ["plain words" in text for text in sent] == [False, True, False]
    assert "[redacted:github-token]" in sent[1]
    assert [event["content_level"] for event in service.acknowledged] == ["structure", "full", "counts"]


def test_large_content_is_cut_marked_and_hashed(env: ClientDir, service: Service) -> None:
    save(env, Config(content=Content(default="full")))
    capture(env, 1, tool_input={"command": "x" * 300_000})
    crewkit("flush")
    told = service.acknowledged[0]["payload"]
    assert len(json.dumps(told)) < 80_000
    assert told["crewkit_cut"]["bytes"] > 300_000
    assert len(told["crewkit_cut"]["sha256"]) == 64
    assert told["tool_use_id"] == "t1"
    assert told["tool_input"]["command"].startswith("xxxx")


def test_offline_nothing_is_lost_and_the_exit_code_says_so(env: ClientDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREWKIT_URL", "http://127.0.0.1:9")
    capture(env, 1)
    done = crewkit("flush", "--once", check=3)
    assert "Cannot reach crewkit at http://127.0.0.1:9" in done.stderr
    assert len(list(env.segments.iterdir())) == 1


def test_a_proxys_friendly_page_deletes_nothing(env: ClientDir, service: Service) -> None:
    service.answer = lambda _path, _body: (200, b"<html>Welcome to the hotel</html>")
    capture(env, 1)
    crewkit("flush", "--once", check=3)
    service.answer = lambda _path, _body: None
    crewkit("flush")
    assert ids(service) == ["t1"]


def test_a_wrong_key_stops_and_says_so(env: ClientDir, service: Service) -> None:
    service.answer = lambda _path, _body: (
        401,
        {"error": {"code": "unauthorized", "message": "no", "request_id": "r1"}},
    )
    capture(env, 1)
    capture(env, 2)
    done = crewkit("flush", check=1)
    assert "401 unauthorized: no (request r1)" in done.stderr
    assert "CREWKIT_API_KEY" in done.stderr
    assert service.posts == 1
    assert len(list(env.segments.iterdir())) == 1


def test_an_oversize_batch_is_halved_and_a_bad_event_is_kept_aside(env: ClientDir, service: Service) -> None:
    def answer(_path: str, body: Any) -> tuple[int, Any] | None:
        if len(body["events"]) > 3:
            return 413, {"error": {"code": "too_large", "message": "too large", "request_id": "r"}}
        if any(event["payload"]["tool_use_id"] == "t4" for event in body["events"]):
            return 400, {"error": {"code": "invalid", "message": "$.events[0]: no", "request_id": "r"}}
        return None

    service.answer = answer
    for number in range(10):
        capture(env, number)
    done = crewkit("flush", check=1)
    assert "1 refused" in done.stdout
    assert ids(service) == [f"t{n}" for n in range(10) if n != 4]
    kept = [json.loads(line) for path in env.rejected.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert [entry["record"]["payload"]["tool_use_id"] for entry in kept] == ["t4"]
    assert "400" in kept[0]["reason"]
    posts = service.posts
    crewkit("flush")
    assert service.posts == posts  # never tried again


def test_single_rejections_are_kept_with_their_reason(env: ClientDir, service: Service) -> None:
    results = [{"index": 0, "status": "accepted"}, {"index": 1, "status": "rejected", "reason": "session_id: missing"}]
    service.answer = lambda _p, _b: (
        202,
        {"accepted": 1, "duplicate": 0, "rejected": 1, "position": 5, "results": results},
    )
    capture(env, 1)
    capture(env, 2)
    assert "session_id: missing" in crewkit("flush", check=1).stderr
    kept = [json.loads(line) for path in env.rejected.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert [entry["record"]["payload"]["tool_use_id"] for entry in kept] == ["t2"]


def test_the_disk_is_bounded_and_what_had_to_go_is_reported(env: ClientDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREWKIT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CREWKIT_SPOOL_BYTES_MAX", "60000")
    for start in range(0, 400, 50):
        for number in range(start, start + 50):
            capture(env, number)
        crewkit("flush", "--once", check=3)
    lost = spool.overflow(env)
    assert lost.events > 0
    assert lost.events + sum(path.read_bytes().count(b"\n") for path in spool.segments(env)) == 400
    assert spool.size_bytes(env) <= 60_000
    assert [entry.events for entry in lost.newest][:1] == [50]
    told = crewkit("sent").stderr
    assert f"{lost.events:,} events" in told
    assert "given up" in told


def test_back_off_grows_is_bounded_and_listens() -> None:
    waits = [backoff_s(n) for n in range(1, 30)]
    assert all(0 < wait <= BACKOFF_MAX_S for wait in waits)
    assert waits[10] > waits[0]
    assert backoff_s(1, 7.0) == 7.0
    assert backoff_s(1, 1e9) == BACKOFF_MAX_S


def background(env: ClientDir) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*PROGRAM, "flush", "--background"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def test_in_the_background_only_one_works_and_it_says_that_it_lives(env: ClientDir, service: Service) -> None:
    first = background(env)
    try:
        deadline = time.monotonic() + 30
        while not env.beat.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        second = background(env)
        assert second.communicate(timeout=30) == (b"", b"")
        assert second.returncode == 0
        assert env.beat.read_text() == f"{first.pid}\n"
        assert env.beat.stat().st_mtime > time.time() + 5
        capture(env, 1)
        assert "background" in crewkit("flush").stdout
        assert ids(service) == ["t1"]
    finally:
        end(first)
    assert not env.beat.exists()


def test_in_the_background_it_ends_when_its_folder_is_removed(env: ClientDir) -> None:
    process = background(env)
    deadline = time.monotonic() + 30
    while not env.beat.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    env.home.rename(env.home.with_name("gone"))
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert not env.home.exists()


def test_in_the_background_a_wrong_key_ends_it_and_holds_the_next_ones_back(env: ClientDir, service: Service) -> None:
    service.answer = lambda _path, _body: (403, {"error": {"code": "forbidden", "message": "no", "request_id": "r"}})
    capture(env, 1)
    process = background(env)
    process.communicate(timeout=30)
    assert process.returncode == 1
    state = msgspec.json.decode(env.state.read_bytes(), type=State)
    assert state.stopped
    assert "403" in state.problem
    assert env.beat.read_text() == "0\n"
    assert env.beat.stat().st_mtime > time.time() + 60


@pytest.mark.crash
def test_killed_at_random_points_nothing_is_lost_and_nothing_doubled(env: ClientDir, service: Service) -> None:
    """Many lives of the flusher while hooks go on; the service now and then breaks off or is overloaded."""
    chance = random.Random(20261120)
    total = 600

    def answer(_path: str, _body: Any) -> tuple[int, Any] | None:
        roll = chance.random()
        if roll < 0.1:
            return 503, {"error": {"code": "unavailable", "message": "later", "request_id": "r"}}
        time.sleep(chance.random() * 0.05)
        return None

    service.answer = answer
    number = 0
    while number < total:
        process = background(env)
        life = time.monotonic() + 0.15 + chance.random() * 0.9
        while time.monotonic() < life:
            for _ in range(min(chance.randrange(1, 12), total - number)):
                capture(env, number)
                number += 1
            time.sleep(0.03)
        process.kill()
        process.communicate(timeout=30)
    service.answer = lambda _path, _body: None
    crewkit("flush")
    by_id = {event["id"]: event["payload"]["tool_use_id"] for event in service.acknowledged}
    assert sorted(by_id.values()) == sorted(
        f"t{n}" for n in range(total)
    )  # each once after dedupe by id: none lost, none doubled
    assert list(env.incoming.iterdir()) == list(env.segments.iterdir()) == []


def test_a_segment_whose_writer_was_killed_is_cleared_away(env: ClientDir, service: Service) -> None:
    capture(env, 1)
    (env.segments / ".01790000000001000000-half.jsonl.x003").write_bytes(b'{"payload": {"session')
    assert "1 sent" in crewkit("flush").stdout
    assert list(env.segments.iterdir()) == []
    assert ids(service) == ["t1"]


def test_sent_shows_the_exact_bytes_and_filters(env: ClientDir, service: Service) -> None:
    capture(env, 1, session_id="first")
    crewkit("flush")
    capture(env, 2, session_id="second")
    crewkit("flush")
    lines = [json.loads(line) for line in crewkit("sent", "--json").stdout.splitlines()]
    assert [line["body"] for line in lines] == [body for _, _, body in service.requests]
    assert [line["outcome"] for line in lines] == ["acknowledged"] * 2
    only = [json.loads(line) for line in crewkit("sent", "--json", "--session", "second").stdout.splitlines()]
    assert [record["payload"]["tool_use_id"] for line in only for record in line["records"]] == ["t2"]
    assert "Nothing has left that matches" in crewkit("sent", "--since", "2199-01-01").stdout
    assert "expected a time like" in crewkit("sent", "--since", "soon", check=2).stderr


def test_the_log_of_what_left_is_bounded_and_says_what_it_pruned(paths: ClientDir) -> None:
    from cli.capture.journal import Journal  # noqa: PLC0415

    no_flusher(paths)
    journal = Journal(paths, bytes_max=20_000, file_bytes_max=4_000)
    for number in range(100):
        journal.add("/x", json.dumps({"events": [{"n": number, "pad": "x" * 500}]}).encode(), "acknowledged", 1)
    assert sum(path.stat().st_size for path in journal.files()) <= 20_000
    assert journal.pruned().files > 0
    assert "were pruned" in crewkit("sent").stdout
