"""Structured logs for every process: one line per event, JSON for machines or columns for people, never a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS = ("json", "console")
HIDDEN = "[hidden]"
VALUE_CHARS_MAX = 4_000

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
    tail: list[structlog.types.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        tail += [structlog.processors.dict_tracebacks, hide_secrets, structlog.processors.JSONRenderer()]
    else:
        colors = sys.stderr.isatty()
        plain = structlog.dev.plain_traceback
        tail += [_traceback_text, hide_secrets, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=tail))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[log_level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(LEVELS[log_level], logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def hide_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace values of secret-sounding fields, and keys, passwords in URLs and bearer tokens anywhere in text."""
    for name, value in event.items():
        event[name] = _hidden(name, value)
    return event


def clean_text(text: str) -> str:
    """`text` without API keys (their id stays), URL passwords and bearer tokens, cut at `VALUE_CHARS_MAX`."""
    text = _API_KEY.sub(r"ck_\1_" + HIDDEN, text)
    text = _URL_PASSWORD.sub(r"\g<start>" + HIDDEN, text)
    text = _BEARER.sub(r"\1 " + HIDDEN, text)
    return text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + "…"


def _hidden(name: str, value: Any) -> Any:
    """Numbers may bear such names: `input_tokens` is a count."""
    return HIDDEN if value and isinstance(value, str | bytes) and _SECRET_NAMES.search(name) else _clean(value)


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
    return structlog.processors.format_exc_info(structlog.get_logger(), "", event)


def _named(process: str) -> structlog.types.Processor:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("process", process)
        return event

    return add
