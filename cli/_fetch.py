"""Fetching an export's file: what was fetched stays, an interrupted download goes on where it broke off, and its checksum counts."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.client import Client, UnreachableError

BREAKS_MAX = 8  # of the connection in one run; the next run of the command goes on all the same
PAUSE_S = 0.5
PIECE_BYTES = 1024 * 1024


class Pending:
    """A file on its way beside `target`: what is there of it, and which export it belongs to."""

    def __init__(self, target: Path) -> None:
        self.part = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    def read(self) -> dict[str, Any] | None:
        """The export and its wishes; None where nothing is on its way."""
        try:
            found = json.loads(self._note.read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def note(self, told: dict[str, Any]) -> None:
        """Remember which export it is; what there was of another one goes."""
        self.forget()
        self._note.parent.mkdir(parents=True, exist_ok=True)
        self._note.write_text(json.dumps(told), encoding="utf-8")

    def forget(self) -> None:
        """Remove all of it."""
        self.part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def fetch(client: Client, view: dict[str, Any], part: Path, say: Callable[[str], None]) -> None:
    """Fetch the file of a ready export into `part`, from where that ends.

    Raises:
        UnreachableError: the connection broke `BREAKS_MAX` times.
        click.ClickException: the bytes are not those that the service wrote; they are removed.
    """
    size, breaks = int(view["size_bytes"]), 0
    part.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        while (at := file.seek(0, os.SEEK_END)) != size:
            if at > size:
                file.truncate(0)
                continue
            try:
                _more(client, view, file, at)
            except UnreachableError:
                breaks += 1
                if breaks >= BREAKS_MAX:
                    raise
                say(f"the connection broke at {file.tell()} of {size} bytes; going on")
                time.sleep(PAUSE_S)
        file.flush()
        os.fsync(file.fileno())
    if checksum(part) != view["sha256"]:
        part.unlink()
        raise click.ClickException("the file differs from what the service wrote; the same command fetches it again")


def _more(client: Client, view: dict[str, Any], file: Any, at: int) -> None:
    wanted = {"Range": f"bytes={at}-", "If-Range": f'"{view["sha256"]}"'} if at else None
    headers, pieces = client.stream(view["_links"]["download"], wanted)
    if at and "content-range" not in headers:  # the service answers with everything
        file.truncate(0)
        file.seek(0)
    for piece in pieces:
        file.write(piece)
    file.flush()
    if file.tell() < int(view["size_bytes"]):
        raise UnreachableError("the answer ended early")


def checksum(path: Path) -> str:
    """SHA-256 of a file, hex."""
    told = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            told.update(piece)
    return told.hexdigest()
