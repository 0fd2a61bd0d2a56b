"""Databases for tests: made once, then copied, which takes a tenth of the time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator
from itertools import count
from typing import Any

import psycopg
from psycopg import sql

_numbers = count(1)


def database(server: str, name: str) -> str:
    """URL of another database of the same server."""
    return server.rpartition("/")[0] + "/" + name


def create(server: str, name: str, template: str = "template1") -> None:
    """Make a database as a copy of another one, to which nobody may be connected."""
    names = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    _execute(server, sql.SQL("CREATE DATABASE {name} TEMPLATE {template}").format(**names))


@contextlib.contextmanager
def copy_of(server: str, template: str) -> Generator[str]:
    """URL of a copy that is gone afterwards, whoever is still connected to it."""
    name = f"test_{next(_numbers)}"
    create(server, name, template)
    try:
        yield database(server, name)
    finally:
        _execute(server, sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(name=sql.Identifier(name)))


def run_aside(work: Any) -> None:
    """Run a coroutine on a loop of its own in a thread, so that the loops of pytest-asyncio stay untouched."""
    failed: list[BaseException] = []

    def main() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001  handed to the caller
            failed.append(error)

    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _execute(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
