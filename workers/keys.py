"""The key that wraps people's keys, as every worker finds it."""

from __future__ import annotations

from pathlib import Path

from eventstore.sealing import load_or_create_master_key
from eventstore.settings import Settings


def master_key(settings: Settings) -> bytes:
    """32 bytes from `key_file`, else from the data directory's `keys/master.key`.

    Raises:
        ValueError: the file holds something else.
        OSError: it cannot be read.
    """
    if settings.key_file:
        return load_or_create_master_key(Path(settings.key_file))
    return load_or_create_master_key(Path(settings.data_dir) / "keys" / "master.key")
