"""How the client commands find the service and talk to it: the standard library's HTTP, because start-up time counts here."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

import click
import msgspec

from cli.capture.paths import client_dir
from eventstore.settings import default_data_dir

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
PIECE_BYTES = 256 * 1024
ERROR_CHARS_MAX = 500
SSE_LINE_BYTES_MAX = 1024 * 1024


class UnreachableError(click.ClickException):
    """Nobody answered: exit code 3."""

    exit_code = 3


class RefusedError(click.ClickException):
    """The service answered, but not with yes: exit code 1.  `status` is the HTTP status, `code` the service's own."""

    exit_code = 1

    def __init__(self, status: int, message: str, code: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class Connection(msgspec.Struct, frozen=True):
    """Where the service is, and who we are there.  `source` says where that was found, for messages."""

    url: str
    api_key: str
    organization: str
    source: str


class Answer(msgspec.Struct, frozen=True):
    """One HTTP answer, read whole; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def _read_file(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: found[key] for key in ("url", "api_key", "organization") if isinstance(found.get(key), str)}


def resolve(environ: Mapping[str, str] = os.environ) -> Connection:
    """`CREWKIT_URL`, `CREWKIT_API_KEY` and `CREWKIT_ORGANIZATION`, each else from a file.

    The files, first found wins: crewkit.json of `CREWKIT_DATA_DIR`, connection.json of the client folder (written by
    `crewkit init` when it was given a connection through the environment), crewkit.json of the data folder that `init` saw,
    and of the default one.

    Raises:
        UnreachableError: no address is known.
        click.ClickException: the address is not an http(s) URL.
    """
    home = client_dir(environ)
    candidates: list[Path] = []
    if environ.get("CREWKIT_DATA_DIR"):
        candidates.append(default_data_dir(environ) / "crewkit.json")
    candidates.append(home / "connection.json")
    try:
        remembered = json.loads((home / "config.json").read_bytes()).get("data_dir")
    except (OSError, ValueError, AttributeError):
        remembered = None
    if isinstance(remembered, str):
        candidates.append(Path(remembered) / "crewkit.json")
    candidates.append(default_data_dir(environ) / "crewkit.json")
    given = {
        field: environ[f"CREWKIT_{field.upper()}"]
        for field in ("url", "api_key", "organization")
        if environ.get(f"CREWKIT_{field.upper()}")
    }
    found, source = dict[str, str](), "the environment"
    if len(given) < 3:
        for path in candidates:
            if found := _read_file(path):
                source = str(path)
                break
    merged = {**found, **given}
    if not merged.get("url"):
        places = "\n  ".join(str(path) for path in dict.fromkeys(candidates))
        raise UnreachableError(
            "No crewkit service is known.  Start one with `crewkit up`, or set CREWKIT_URL, CREWKIT_API_KEY and "
            f"CREWKIT_ORGANIZATION.  Looked for\n  {places}"
        )
    url = merged["url"].rstrip("/")
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise click.ClickException(f"CREWKIT_URL: expected http://HOST[:PORT] or https://…, got {url!r}")
    return Connection(url, merged.get("api_key", ""), merged.get("organization", "default"), source)


class Client:
    """One keep-alive connection to the service.  Not for use by two threads at once; make one per thread."""

    def __init__(self, connection: Connection, timeout_s: float = READ_TIMEOUT_S) -> None:
        self.connection = connection
        self._timeout_s = timeout_s
        self._http: http.client.HTTPConnection | None = None
        parts = urlsplit(connection.url)
        self._host = parts.hostname or ""
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._base = parts.path
        self._absolute = ""
        self._headers = {"User-Agent": "crewkit", "Accept": "application/json"}
        if connection.api_key:
            self._headers["X-API-Key"] = connection.api_key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the next request dials again."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _dial(self) -> http.client.HTTPConnection:
        scheme = "https" if self._secure else "http"
        proxy = None if urllib.request.proxy_bypass(self._host) else urllib.request.getproxies().get(scheme)
        if self._host in {"127.0.0.1", "localhost", "::1"}:
            proxy = None
        host, port = self._host, self._port
        if proxy:
            parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
            host, port = parts.hostname or "", parts.port or 80
        if self._secure:
            link: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=CONNECT_TIMEOUT_S, context=ssl.create_default_context()
            )
            if proxy:
                link.set_tunnel(self._host, self._port)
        else:
            link = http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
            if proxy:
                self._absolute = f"http://{self._host}:{self._port}"
        link.connect()
        link.sock.settimeout(self._timeout_s)
        link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Ask once; once more on a fresh connection if a kept one turned out to be closed.

        Raises:
            UnreachableError: no connection, or it broke before the answer.
        """
        every = {**self._headers, **headers}
        if body is not None:
            every.setdefault("Content-Type", "application/json")
        for fresh in (self._http is None, True):
            try:
                if self._http is None:
                    self._http = self._dial()
                self._http.request(method, f"{self._absolute}{self._base}{path}", body=body, headers=every)
                return self._http.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh:
                    raise UnreachableError(
                        f"Cannot reach crewkit at {self.connection.url} ({self.connection.source}): "
                        f"{type(error).__name__}: {error}.  Is it running?  `crewkit status` tells."
                    ) from error
        raise AssertionError  # the second round always returns or raises

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and read the whole answer, whatever its status.

        Raises:
            UnreachableError: no answer.
        """
        response = self._send(method, path, body, headers or {})
        try:
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise UnreachableError(f"The answer of {self.connection.url} broke off: {error}") from error
        return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, data)

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> bytes:
        """Read one resource of our organization: `path` starts after `/api/v1/{organization}`.

        Raises:
            RefusedError: an answer other than 2xx.
            UnreachableError: no answer.
        """
        answer = self.ask("GET", self.path(path, query))
        if not 200 <= answer.status < 300:
            raise refusal(answer)
        return answer.body

    def stream(self, path: str, more: Mapping[str, str] | None = None) -> tuple[dict[str, str], Iterator[bytes]]:
        """Read a large answer piece by piece: its headers (lower case), then the pieces.  `more` are headers to send.

        Raises:
            RefusedError: an answer other than 200, or 206 where `more` asks for a range.
            UnreachableError: no connection; while reading, also: it broke before the end.
        """
        response = self._send("GET", path, None, {"Accept": "*/*", **(more or {})})
        headers = {key.lower(): value for key, value in response.getheaders()}
        if response.status not in ({200, 206} if more and "Range" in more else {200}):
            raise refusal(Answer(response.status, headers, response.read()))
        return headers, self._pieces(response)

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while piece := response.read(PIECE_BYTES):
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"The answer of {self.connection.url} broke off: {error}") from error
        finally:
            self.close()

    def path(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        """`path` inside our organization, with the parameters that have a value."""
        return self.with_query(f"/api/v1/{quote(self.connection.organization, safe='')}{path}", query)

    @staticmethod
    def with_query(path: str, query: Mapping[str, Any] | None = None) -> str:
        """`path` with the parameters that have a value."""
        chosen = {key: value for key, value in (query or {}).items() if value is not None}
        return f"{path}?{urlencode(chosen, doseq=True)}" if chosen else path

    def events(self, path: str, last_event_id: str | None = None) -> Iterator[tuple[str, str, str]]:
        """Follow a server-sent event stream: (event name, id, data) as they come; ends when the service hangs up.

        Raises:
            RefusedError: an answer other than 200.
            UnreachableError: no connection, or it broke.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        response = self._send("GET", path, None, headers)
        if response.status != 200:
            body = response.read()
            raise refusal(Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, body))
        name, ident, data = "message", "", list[str]()
        try:
            while line := response.readline(SSE_LINE_BYTES_MAX):
                field, _, value = line.decode(errors="replace").rstrip("\r\n").partition(":")
                value = value.removeprefix(" ")
                if field == "event":
                    name = value
                elif field == "id":
                    ident = value
                elif field == "data":
                    data.append(value)
                elif not field and not value:
                    if data:
                        yield name, ident, "\n".join(data)
                    name, data = "message", []
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"The stream of {self.connection.url} broke off: {error}") from error
        finally:
            self.close()


def refusal(answer: Answer) -> RefusedError:
    """What the service said against it, in one line with its request id."""
    code, message = "", answer.body[:ERROR_CHARS_MAX].decode(errors="replace")
    request_id = answer.headers.get("x-request-id", "")
    try:
        error = json.loads(answer.body)["error"]
        code, message = str(error.get("code", "")), str(error.get("message", message))
        request_id = str(error.get("request_id") or request_id)
        if details := error.get("details"):
            message = f"{message} {json.dumps(details)[:ERROR_CHARS_MAX]}"
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    retry = answer.headers.get("retry-after", "")
    hint = {401: "  Is CREWKIT_API_KEY right?  `crewkit auth status` says whether you are signed in."}.get(
        answer.status, ""
    )
    note = f" (request {request_id})" if request_id else ""
    return RefusedError(
        answer.status,
        f"{answer.status} {code}: {message}{note}{hint}",
        code,
        float(retry) if retry.replace(".", "", 1).isdigit() else None,
    )
