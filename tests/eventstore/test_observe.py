"""Logs are structured, and no secret gets into them, wherever it stands."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest
import structlog

from eventstore.observe import clean_text, configure, hide_secrets

KEY = "ck_" + "0" * 32 + "_" + "s" * 43


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def written(log_format: str, log_level: str = "info") -> io.StringIO:
    with redirect_stderr(io.StringIO()) as output:
        configure(log_format, log_level, process="test")
    return output


def test_one_json_object_per_line() -> None:
    output = written("json")
    structlog.stdlib.get_logger("x").info("thing.done", count=3)
    logging.getLogger("library").warning("said %s", "this")
    first, second = map(json.loads, output.getvalue().splitlines())
    assert (first["event"], first["count"], first["process"], first["level"]) == ("thing.done", 3, "test", "info")
    assert (second["event"], second["level"]) == ("said this", "warning")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_is_written(log_format: str) -> None:
    output = written(log_format)
    log = structlog.stdlib.get_logger("x")
    log.info(
        "asked", api_key="abc-plain", url="postgresql://me:hunter2@host/db", note=f"sent {KEY}", nested={"token": "t0p"}
    )
    try:
        int(f"refused {KEY}: Bearer abcdefghijkl")
    except ValueError:
        log.exception("failed")
    text = output.getvalue()
    for secret in ("abc-plain", "hunter2", "s" * 43, "t0p", "abcdefghijkl"):
        assert secret not in text
    assert "0" * 32 in text  # which key it was may be known


def test_numbers_keep_their_value_under_any_name() -> None:
    assert hide_secrets(None, "", {"input_tokens": 12, "token": "x"}) == {"input_tokens": 12, "token": "[hidden]"}


def test_long_values_lose_their_middle() -> None:
    assert len(clean_text("x" * 10_000)) == 4_001
    kept = clean_text("Traceback\n" + "  frame\n" * 1_000 + "TooManyConnectionsError: sorry")
    assert (kept[:9], kept[-30:]) == ("Traceback", "TooManyConnectionsError: sorry")


def test_below_the_level_nothing_is_written() -> None:
    output = written("json", "error")
    structlog.stdlib.get_logger("x").info("quiet")
    logging.getLogger("nats").warning("quiet too")
    assert output.getvalue() == ""


@pytest.mark.parametrize(("log_format", "log_level", "name"), [("xml", "info", "FORMAT"), ("json", "loud", "LEVEL")])
def test_a_wrong_setting_is_named(log_format: str, log_level: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"CREWKIT_LOG_{name}: expected one of"):
        configure(log_format, log_level)
