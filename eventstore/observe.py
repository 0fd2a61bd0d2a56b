"""Structured logs for every process: one line per event, JSON for machines or columns for people, never a secret."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, TextIO

import msgspec
import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS = ("json", "console")
HIDDEN = "[hidden]"
VALUE_CHARS_MAX = 4_000
_HEAD_CHARS = 1_000  # of a longer value; its end stays too, where a traceback names the error
NAMES_MAX = 1_000  # field names whose secrecy is remembered

_SECRET_NAMES = re.compile(r"(?i)(^|_)(api_?key|key_text|token|password|passwd|secret|authorization|cookie)s?($|_)")
_API_KEY = re.compile(r"ck_([0-9a-f]{32})_[A-Za-z0-9_-]+")
_URL_PASSWORD = re.compile(r"(?P<start>[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@]+(?=@)")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
# Chatty below warning, and of no use to whoever runs crewkit.
_QUIET = ("asyncio", "nats", "httpx", "httpcore", "litestar", "pogo_migrate", "uvicorn.access")


def configure(log_format: str = "console", log_level: str = "info", *, process: str = "crewkit") -> None:
    """Set up structlog and the standard library's logging for this process; output goes to standard error.

    Raises:
        ValueError: unknown format or level; the message names the setting.
    """
    if log_format not in FORMATS:
        raise ValueError(f"CREWKIT_LOG_FORMAT: expected one of {', '.join(FORMATS)}, got {log_format!r}")
    if log_level not in LEVELS:
        raise ValueError(f"CREWKIT_LOG_LEVEL: expected one of {', '.join(LEVELS)}, got {log_level!r}")
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(process),
    ]
    tail: list[structlog.types.Processor]
    if log_format == "json":
        tail = [structlog.processors.dict_tracebacks, hide_secrets, structlog.processors.JSONRenderer(_json_text)]
    else:
        tail = [_traceback_text, hide_secrets, _console_renderer()]
    handler = logging.StreamHandler(sys.stderr)
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove_meta, *tail]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[log_level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(LEVELS[log_level], logging.WARNING))
    stream = sys.stderr
    # Our own lines go straight to the stream: the way through the standard library costs more than an ingested event.
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *tail],
        logger_factory=lambda *_: _Lines(stream),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[log_level]),
        cache_logger_on_first_use=True,
    )


def _json_text(event: Any, **_: Any) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=str).decode()
    except (TypeError, ValueError):  # odd keys, lone surrogates
        return json.dumps(event, default=str, skipkeys=True)


class _Lines:
    """Writes lines to a stream.  A full disk or a closed pipe loses the line, never the work that it tells about."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = log = msg


def _console_renderer() -> structlog.types.Processor:
    """Columns and colours for people at a terminal; for files the same words, without what aligning them costs."""
    pretty = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    if sys.stderr.isatty():
        return pretty

    def render(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        if "exception" in event or "stack" in event:
            return str(pretty(logger, name, event))
        head = f"{event.pop('timestamp', '')} [{event.pop('level', ''):<9}] {event.pop('event', '')!s:<30} "
        return head + " ".join([f"{key}={_shown(event[key])}" for key in sorted(event)])

    return render


def _shown(value: Any) -> str:
    """Text that cannot be taken for several fields as it is, everything else quoted."""
    if type(value) is str:
        return value if value.isprintable() and " " not in value and "=" not in value else repr(value)
    return repr(value)


def hide_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace values of secret-sounding fields, and keys, passwords in URLs and bearer tokens anywhere in text."""
    for name, value in event.items():
        if type(value) is not int and type(value) is not float:
            event[name] = _hidden(name, value)
    return event


def clean_text(text: str) -> str:
    """`text` without API keys (their id stays), URL passwords and bearer tokens, what is longer than `VALUE_CHARS_MAX` loses its middle."""
    if "ck_" in text:
        text = _API_KEY.sub(r"ck_\1_" + HIDDEN, text)
    if "://" in text:
        text = _URL_PASSWORD.sub(r"\g<start>" + HIDDEN, text)
    if not text.isprintable() or " " in text:  # a scheme and its token have white space between them
        text = _BEARER.sub(r"\1 " + HIDDEN, text)
    if len(text) <= VALUE_CHARS_MAX:
        return text
    return f"{text[:_HEAD_CHARS]}…{text[_HEAD_CHARS - VALUE_CHARS_MAX :]}"


@lru_cache(maxsize=NAMES_MAX)
def _is_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def _hidden(name: str, value: Any) -> Any:
    """Numbers may bear such names: `input_tokens` is a count."""
    if isinstance(value, str):
        return HIDDEN if value and _is_secret(name) else clean_text(value)
    return HIDDEN if value and isinstance(value, bytes) and _is_secret(name) else _clean(value)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {key: _hidden(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return clean_text(str(value))


def _traceback_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Render the exception before secrets are hidden, so that they are hidden in it too."""
    if "exc_info" not in event:
        return event
    return structlog.processors.format_exc_info(structlog.get_logger(), "", event)


def _named(process: str) -> structlog.types.Processor:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("process", process)
        return event

    return add
