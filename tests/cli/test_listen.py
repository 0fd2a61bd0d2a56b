"""Hooks over HTTP on this machine, and the hook as a command: both end in the spool that the hook script fills."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cli.capture import spool
from cli.capture.paths import ClientDir
from cli.capture.put import ensure_flusher
from cli.listen import BODY_BYTES_MAX, Listener
from tests.cli.conftest import PROGRAM, Service, crewkit, no_flusher

STOP = {"session_id": "s", "hook_event_name": "Stop", "prompt_id": "p"}


@pytest.fixture
def listener(paths: ClientDir) -> Iterator[Listener]:
    with Listener(paths, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def post(listener: Listener, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    link = http.client.HTTPConnection("127.0.0.1", listener.server_address[1], timeout=30)
    link.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = link.getresponse()
    told = json.loads(answer.read())
    link.close()
    return answer.status, told


def kept(paths: ClientDir) -> list[tuple[str, dict[str, Any]]]:
    return [(e.agent, json.loads((paths.incoming / e.name).read_bytes())) for e in spool.scan(paths)]


def test_a_posted_hook_waits_in_the_spool_as_it_came(listener: Listener, paths: ClientDir) -> None:
    assert post(listener, "/hooks/Stop", json.dumps(STOP).encode()) == (200, {})
    assert kept(paths) == [("claude", STOP)]
    assert (next(paths.incoming.iterdir()).stat().st_mode & 0o777) == 0o600


def test_the_address_names_event_and_agent_where_the_payload_does_not(listener: Listener, paths: ClientDir) -> None:
    assert post(listener, "/hooks/Session%53tart?agent=gemini", b'{"session_id": "s"}') == (200, {})
    assert kept(paths) == [("gemini", {"session_id": "s", "hook_event_name": "SessionStart"})]


def test_many_at_once_are_all_kept(listener: Listener, paths: ClientDir) -> None:
    def send(number: int) -> None:
        assert post(listener, "/hooks/Stop", json.dumps({**STOP, "prompt_id": str(number)}).encode()) == (200, {})

    threads = [threading.Thread(target=send, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(payload["prompt_id"]) for _, payload in kept(paths)) == list(range(40))


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/hooks/", b"{}", {}, 400),
        ("/hooks/a/b", b"{}", {}, 404),
        ("/other", b"{}", {}, 404),
        ("/hooks/Stop", b"[1]", {}, 400),
        ("/hooks/Stop", b"{", {}, 400),
        ("/hooks/Stop?agent=other", b"{}", {}, 400),
        ("/hooks/Stop", b"{}", {"Origin": "https://site.example"}, 403),
        ("/hooks/Stop", b"{}", {"Host": "site.example"}, 403),
        ("/hooks/Stop", b"{}", {"Content_Length": str(BODY_BYTES_MAX + 1)}, 413),
    ],
)
def test_what_is_no_hook_of_this_machine_is_refused(
    listener: Listener, paths: ClientDir, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    answered, told = post(listener, path, body, **headers)
    assert answered == status
    assert told["error"]["code"]
    assert kept(paths) == []


def test_a_spool_that_cannot_be_written_is_said_so(listener: Listener, paths: ClientDir) -> None:
    paths.incoming.rmdir()
    paths.incoming.write_text("in the way")
    status, told = post(listener, "/hooks/Stop", b"{}")
    assert (status, told["error"]["code"]) == (503, "unavailable")


def test_the_command_prints_its_address_takes_hooks_offline_and_stops(paths: ClientDir) -> None:
    process = subprocess.Popen([*PROGRAM, "listen"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    assert address.startswith("http://127.0.0.1:")
    assert address.endswith("/hooks/{event}")
    port = int(address.removeprefix("http://127.0.0.1:").partition("/")[0])
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    link.request("POST", "/hooks/Stop", json.dumps(STOP))
    assert link.getresponse().read() == b"{}"
    assert "cannot listen" in crewkit("listen", "--port", str(port), check=1).stderr
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    assert kept(paths) == [("claude", STOP)]


def test_what_was_posted_arrives(
    listener: Listener, paths: ClientDir, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("url", "api_key", "organization"):
        monkeypatch.setenv(f"CREWKIT_{name.upper()}", getattr(service.connection(), name))
    post(listener, "/hooks/Stop", json.dumps(STOP).encode())
    crewkit("flush", "--once")
    assert [event["payload"]["hook_event_name"] for event in service.acknowledged] == ["Stop"]


@pytest.mark.parametrize("more", [[], ["--agent", "codex"], ["--unknown", "x"]])
def test_the_hook_as_a_command_keeps_what_it_reads_and_exits_with_zero(paths: ClientDir, more: list[str]) -> None:
    done = crewkit("hook-handler", *more, input=json.dumps(STOP))
    assert (done.stdout, done.stderr) == ("", "")
    assert kept(paths) == [("codex" if "codex" in more else "claude", STOP)]


def test_the_hook_as_a_command_exits_with_zero_when_nothing_works(paths: ClientDir) -> None:
    paths.incoming.rmdir()
    paths.incoming.write_text("in the way")
    done = crewkit("hook-handler", input="{}")
    assert (done.stdout, done.stderr) == ("", "")
    assert "hook-handler" not in crewkit("--help").stdout


def test_a_flusher_is_started_once(paths: ClientDir, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def start(command: list[str], **_: Any) -> None:
        started.append(command)

    monkeypatch.setattr(subprocess, "Popen", start)
    ensure_flusher(paths)  # one lives: conftest says so
    assert started == []
    paths.beat.unlink()
    ensure_flusher(paths)
    ensure_flusher(paths)  # it is being started
    assert [command[-2:] for command in started] == [["flush", "--background"]]
    os.utime(paths.starting, (1, 1))  # that start was killed long ago
    ensure_flusher(paths)
    assert len(started) == 2
    no_flusher(paths)
