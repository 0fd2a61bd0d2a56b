"""`crewkit listen`: a door on this machine for agents that post their hooks over HTTP."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import click

from cli.capture.paths import ClientDir, here
from cli.capture.put import ensure_flusher, put

HOST = "127.0.0.1"
BODY_BYTES_MAX = 8 * 1024 * 1024
EVENT_CHARS_MAX = 200
CONNECTIONS_MAX = 64
READ_TIMEOUT_S = 10.0
AGENTS = frozenset({"claude", "codex", "gemini"})
_LOCAL = frozenset({"127.0.0.1", "localhost"})


class _RefusedError(Exception):
    """The HTTP status and what is said with it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Listener(ThreadingHTTPServer):
    """Takes hooks on loopback and puts them into the spool.  Closing it waits for requests that are being answered."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, paths: ClientDir, port: int) -> None:
        super().__init__((HOST, port), _Handler)
        self.paths = paths
        self.turn = threading.Lock()  # one capture at a time: their order is that of arrival
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, when there is a place for one more."""
        self._places.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Give the place back afterwards."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is no event."""


class _Handler(BaseHTTPRequestHandler):
    timeout = READ_TIMEOUT_S

    def do_POST(self) -> None:
        """`POST /hooks/{event}`, with `?agent=` for others than Claude Code."""
        try:
            self._take()
        except _RefusedError as error:
            self._answer(error.status, {"error": {"code": error.code, "message": str(error)}})
        except OSError as error:
            told = f"not kept: {error.strerror or type(error).__name__}"
            with contextlib.suppress(OSError):
                self._answer(503, {"error": {"code": "unavailable", "message": told}})
        else:
            self._answer(200, {})

    def _take(self) -> None:
        event, agent = self._where()
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            raise _RefusedError(411, "length_required", "Content-Length: expected a number of bytes")
        if int(length) > BODY_BYTES_MAX:
            raise _RefusedError(413, "too_large", f"expected at most {BODY_BYTES_MAX} bytes, got {length}")
        body = self.rfile.read(int(length))
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _RefusedError(400, "invalid", "expected a JSON object") from error
        if len(body) < int(length) or not isinstance(payload, dict):
            raise _RefusedError(400, "invalid", "expected a JSON object")
        if "hook_event_name" not in payload:
            body = json.dumps({**payload, "hook_event_name": event}).encode()
        server = cast("Listener", self.server)
        with server.turn:
            put(server.paths.make(), body, agent)
            ensure_flusher(server.paths)

    def _where(self) -> tuple[str, str]:
        """The event and the agent that the address names."""
        # A page in a browser may post to any port of this machine; it cannot hide its origin or another host's name.
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if "Origin" in self.headers or host not in _LOCAL:
            raise _RefusedError(403, "forbidden", "only programs on this machine may post here")
        parts = urlsplit(self.path)
        event = unquote(parts.path.removeprefix("/hooks/"))
        if not parts.path.startswith("/hooks/") or "/" in event:
            raise _RefusedError(404, "not_found", "expected POST /hooks/{event}")
        if not 0 < len(event) <= EVENT_CHARS_MAX or not event.isprintable():
            raise _RefusedError(400, "invalid", f"event: expected 1 to {EVENT_CHARS_MAX} printable characters")
        agent = parse_qs(parts.query).get("agent", ["claude"])[0]
        if agent not in AGENTS:
            raise _RefusedError(400, "invalid", f"agent: expected one of {', '.join(sorted(AGENTS))}")
        return event, agent

    def _answer(self, status: int, told: dict[str, Any]) -> None:
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Nothing: payloads and addresses belong into no log."""


@click.command()
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="Port (0: any free one).")
def listen(port: int) -> None:
    """Take hooks over HTTP on this machine: POST /hooks/{event}, the hook's JSON as body.

    For agents that post their hooks instead of running a command.  The payload goes into the same spool as that of the
    installed hook, so this works offline, and redaction and content level apply.  Answers 200 {} at once.  Only this machine
    can reach it; ?agent=codex or ?agent=gemini names another agent than Claude Code.  Ctrl-C ends it.  Exit codes: 0 ended,
    1 the port is taken, 2 wrong command line.
    """
    try:
        server = Listener(here().make(), port)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {HOST}:{port}: {error.strerror}") from error

    def stop(_signal: int, _frame: Any) -> None:
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with server:
        click.echo(f"listening on {server.url}/hooks/{{event}}")
        server.serve_forever(poll_interval=0.1)
