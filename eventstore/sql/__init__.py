"""The statements of the event store, one verb per file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent


@cache
def load(name: str) -> str:
    """The text of `<name>.sql`.

    Raises:
        FileNotFoundError: there is no such statement.
    """
    return (_HERE / f"{name}.sql").read_text(encoding="utf-8")
