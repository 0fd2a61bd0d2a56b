"""Objects: whole files under a key, written once and kept apart from the log.  A folder, or anything that speaks S3.

What is stored is what the log holds: sealed text stays in its boxes, so destroying a person's key darkens objects too.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from eventstore.objects.local import LocalObjects
from eventstore.objects.port import (
    ObjectMissingError,
    ObjectRefusedError,
    Objects,
    ObjectsUnavailableError,
    checked_key,
)
from eventstore.settings import Settings, default_data_dir

SCHEMES = ("file", "s3")

__all__ = [
    "LocalObjects",
    "ObjectMissingError",
    "ObjectRefusedError",
    "Objects",
    "ObjectsUnavailableError",
    "checked_key",
    "open_objects",
]


def open_objects(settings: Settings) -> Objects:
    """The object store that `CREWKIT_OBJECT_STORE_URL` names: `file:///folder`, `s3://bucket/prefix`, or the data folder.

    Raises:
        ValueError: the URL is of another kind, or what speaks S3 is not installed.
    """
    url = settings.object_store_url
    if not url:
        folder = Path(settings.data_dir) if settings.data_dir else default_data_dir()
        return LocalObjects(folder / "objects")
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.strip("/"):
        return LocalObjects(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        try:
            from eventstore.objects.s3 import S3Objects  # noqa: PLC0415  an optional dependency
        except ModuleNotFoundError as error:
            raise ValueError(
                "CREWKIT_OBJECT_STORE_URL: s3:// needs the extra s3 (pip install 'crewkit[s3]')"
            ) from error
        return S3Objects(parts.netloc, unquote(parts.path).strip("/"))
    raise ValueError("CREWKIT_OBJECT_STORE_URL: expected file:///folder or s3://bucket/prefix")
