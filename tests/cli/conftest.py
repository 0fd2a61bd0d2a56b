"""A small real HTTP service on loopback that keeps what it acknowledges, and a client folder to play in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli.capture.hook_script import hook_command, install
from cli.capture.paths import ClientDir
from cli.client import Connection

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT / "tests" / "recordings"
PROGRAM = [sys.executable, "-I", str(ROOT / "crewkit.py")]


class Service:
    """What came in.  `answer` may be replaced to misbehave: it takes (path, body) and returns a status and a body, or None."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.acknowledged: list[dict[str, Any]] = []  # hook envelopes, in order of acknowledgement
        self.items: dict[str, list[dict[str, Any]]] = {}
        self.posts = 0
        self.seen: set[str] = set()
        self.answer: Callable[[str, Any], tuple[int, Any] | None] = lambda _path, _body: None
        self.url = ""

    def connection(self) -> Connection:
        return Connection(self.url, "ck_" + "0" * 32 + "_" + "k" * 43, "default", "the test")

    def take(self, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        with self.lock:
            self.posts += 1
            self.requests.append((path, headers, body))
            if (told := self.answer(path, body)) is not None:
                return told
            if path.endswith("/observability/events"):
                records = body["events"]
                self.acknowledged += records
                keys = [record["id"] for record in records]
            elif path.endswith("/observability/items"):
                self.posts -= 1 + len(body["batches"])
                self.requests.pop()
                base = path.removesuffix("items")
                answers = [
                    self.take(f"{base}llm_sessions/{batch.pop('llm_session_id')}/items", headers, batch)[1]
                    for batch in body["batches"]
                ]
                self.posts += 1
                return 202, {"position": 1, "answers": answers}
            elif path.endswith("/items"):
                records = body["items"]
                session = path.split("/")[-2]
                self.items.setdefault(session, []).extend(records)
                keys = [record.get("uuid") or json.dumps(record, sort_keys=True) for record in records]
            else:
                return 404, {"error": {"code": "not_found", "message": path, "request_id": "r"}}
            results = []
            for index, key in enumerate(keys):
                results.append({"index": index, "status": "duplicate" if key in self.seen else "accepted"})
                self.seen.add(key)
            accepted = sum(result["status"] == "accepted" for result in results)
            return 202, {
                "accepted": accepted, "duplicate": len(results) - accepted, "rejected": 0, "position": 1, "results": results,
            }  # fmt: skip


@pytest.fixture
def service() -> Iterator[Service]:
    held = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                body = json.loads(data)
            except ValueError:
                body = data
            status, answer = held.take(self.path, dict(self.headers.items()), body)
            out = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:  # a client that was killed hangs up in the middle
            pass

    server = Server(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield held
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientDir:
    """A client folder with a blank in its name; no flusher is started by hooks unless a test wants it."""
    home = tmp_path / "home of dev"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("CREWKIT_", "CLAUDE", "CODEX", "OTEL_", "GIT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CREWKIT_HOME", str(home / "crew kit"))
    monkeypatch.setenv("CREWKIT_DATA_DIR", str(home / "data"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    client = ClientDir(home / "crew kit").make()
    install(client, home / "data")
    no_flusher(client)
    return client


def no_flusher(paths: ClientDir) -> None:
    """Make hooks believe that a flusher lives for the next hour."""
    paths.beat.write_text(f"{os.getpid()}\n")
    ahead = 4_000_000_000
    os.utime(paths.beat, (ahead, ahead))


def call_hook(
    paths: ClientDir, payload: bytes, shell: str = "sh", agent: str = "claude"
) -> subprocess.CompletedProcess[bytes]:
    """Run the hook as an agent does: by its command, through a shell."""
    return subprocess.run(
        [shell, "-c", hook_command(paths, agent, shared=False)],
        input=payload,
        capture_output=True,
        check=False,
        timeout=60,
    )


def crewkit(*arguments: str, check: int | None = 0, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run our program."""
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=120, **more)
    assert check is None or done.returncode == check, (done.returncode, done.stdout, done.stderr)
    return done
