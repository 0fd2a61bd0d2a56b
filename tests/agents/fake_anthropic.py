"""A scripted Anthropic Messages API on loopback that the real Claude Code CLI accepts.  Standard library only.

A marker word in the newest user prompt picks a script; the step is the number of assistant turns since then.  Token usage is
made up but consistent: the first request of a script writes 4,000 tokens to the cache, each later one reads what is there and
writes 600 more.  Nothing of a request is kept unless a test asks for it: request bodies of agents hold the vendor's prompt text.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Block = dict[str, Any]


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _use(name: str, **arguments: Any) -> Block:
    return {"type": "tool_use", "name": name, "input": arguments}


SCRIPTS: dict[str, list[list[Block]]] = {
    "CREWKIT-DEMO": [
        [_text("Looking around."), _use("Bash", command="echo hello", description="Say hello")],
        [_use("Bash", command="exit 3", description="Fail on purpose")],
        [_use("Write", file_path="{cwd}/hello.py", content="print('hello')\n")],
        [_use("Edit", file_path="{cwd}/hello.py", old_string="hello", new_string="goodbye")],
        [
            _use(
                "Agent",
                description="Look at files",
                prompt="SUBAGENT-LS: list the files",
                subagent_type="general-purpose",
                run_in_background=False,
            )
        ],
        [_text("All done.")],
    ],
    "SUBAGENT-LS": [[_use("Bash", command="ls", description="List files")], [_text("One file.")]],
    "CREWKIT-SHORT": [[_text("Short answer.")]],
    "DEFAULT": [[_text("ok")]],
}


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content or [] if block.get("type") == "text")


def _pick(body: dict[str, Any], scripts: dict[str, list[list[Block]]]) -> tuple[str, int]:
    turns = 0
    for message in reversed(body.get("messages", [])):
        if message["role"] == "assistant":
            turns += 1
            continue
        found = [word for word in scripts if word != "DEFAULT" and word in _plain(message["content"])]
        if found and body.get("tools"):
            return found[-1], turns
    return "DEFAULT", 0


def _usage(step: int, output: int) -> dict[str, Any]:
    written = 4000 if step == 0 else 600
    return {
        "input_tokens": 12 + step,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": 0 if step == 0 else 4000 + 600 * (step - 1),
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "service_tier": "standard",
        "inference_geo": "not_available",
    }


class Failure:
    """An answer that is an error."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _Server(ThreadingHTTPServer):
    scripts: dict[str, list[list[Block]]]
    failures: list[Failure]
    kept: list[dict[str, Any]] | None
    gate: threading.Event | None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Say nothing: test output is read by people."""

    def _body(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _reply(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("request-id", f"req_{uuid.uuid4().hex[:24]}")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._reply(404, {"type": "error", "error": {"type": "not_found_error", "message": "no"}})

    do_HEAD = do_GET  # noqa: N815  the name is the standard library's

    def do_POST(self) -> None:
        raw = self._body()
        path = self.path.split("?")[0]
        if path == "/v1/messages/count_tokens":
            self._reply(200, {"input_tokens": max(1, len(raw) // 4)})
        elif path == "/v1/messages":
            body = json.loads(raw)
            if self.server.kept is not None:
                self.server.kept.append(body)
            if self.server.gate is not None:
                self.server.gate.wait()
            if self.server.failures:
                failure = self.server.failures.pop(0)
                kind = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
                error = {"type": kind.get(failure.status, "api_error"), "message": "scripted failure"}
                self._reply(failure.status, {"type": "error", "error": error}, failure.headers)
            else:
                self._answer(body)
        else:
            self._reply(404, {"type": "error", "error": {"type": "not_found_error", "message": path}})

    def _answer(self, body: dict[str, Any]) -> None:
        marker, step = _pick(body, self.server.scripts)
        script = self.server.scripts[marker]
        system = _plain(body.get("system") or "") + json.dumps(body.get("messages", [])[:1])
        named = re.search(r"[Ww]orking directory: ([^\n\\]+)", system)
        blocks: list[Block] = json.loads(
            json.dumps(script[min(step, len(script) - 1)]).replace("{cwd}", named[1].strip() if named else ".")
        )
        for block in blocks:
            if block["type"] == "tool_use":
                block["id"] = f"toolu_01{uuid.uuid4().hex[:22]}"
        stop = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
        output = 5 + len(json.dumps(blocks)) // 4
        message = {
            "id": f"msg_01{uuid.uuid4().hex[:22]}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(step, 1),
        }
        if body.get("stream"):
            self._stream(message, blocks, stop, _usage(step, output))
        else:
            self._reply(200, {**message, "content": blocks, "stop_reason": stop, "usage": _usage(step, output)})

    def _stream(self, message: dict[str, Any], blocks: list[Block], stop: str, usage: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.send_header("request-id", f"req_{uuid.uuid4().hex[:24]}")
        self.end_headers()
        self.close_connection = True

        def say(kind: str, **data: Any) -> None:
            self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode())
            self.wfile.flush()

        say("message_start", message=message)
        for index, block in enumerate(blocks):
            if block["type"] == "text":
                say("content_block_start", index=index, content_block={"type": "text", "text": ""})
                say("content_block_delta", index=index, delta={"type": "text_delta", "text": block["text"]})
            else:
                say("content_block_start", index=index, content_block={**block, "input": {}})
                whole = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
                say("content_block_delta", index=index, delta=whole)
            say("content_block_stop", index=index)
        say("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=usage)
        say("message_stop")


@contextmanager
def fake_anthropic(
    scripts: dict[str, list[list[Block]]] | None = None,
    *,
    failures: list[Failure] | None = None,
    kept: list[dict[str, Any]] | None = None,
    gate: threading.Event | None = None,
) -> Iterator[str]:
    """Serve on a free loopback port until the block ends; yields the base URL.

    `scripts` are added to the known ones, `failures` are the first answers, `kept` takes the bodies of requests, answers wait
    for `gate`.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.scripts = {**SCRIPTS, **(scripts or {})}
    server.failures = [] if failures is None else failures
    server.kept = kept
    server.gate = gate
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
