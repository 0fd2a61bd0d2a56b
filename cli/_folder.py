"""A folder that exports are put into, one on top of the other: partitions that changed replace those that are there.

Putting an archive in can be repeated: cut off at any point, the next run does it again from the archive, which stays until the
state says that it is in.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import click

STATE = ".crewkit-export.json"
_BESIDES = {"manifest.json", "data-dictionary.md"}


class Folder:
    """The folder of one export and of those that brought it up to date."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def state(self) -> dict[str, Any] | None:
        """Which export it shows, with which wishes, up to which position; None where it shows none."""
        try:
            found = json.loads((self.path / STATE).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def is_empty(self) -> bool:
        """Whether there is nothing that we could destroy."""
        return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    def is_whole(self) -> bool:
        """Whether every file is there that the state's export consists of, in its size."""
        manifest = self._manifest()
        if manifest is None:
            return False
        return all(_size(self.path / name) == size for name, size in _files(manifest).items())

    def put(self, archive: Path, state: dict[str, Any]) -> None:
        """Make the folder what the archive's manifest says, then note it.

        Raises:
            click.ClickException: the archive and the folder do not add up to it; nothing of the folder is lost.
        """
        with zipfile.ZipFile(archive) as file:
            manifest = json.loads(file.read("manifest.json"))
            wanted, brought = _files(manifest), set(file.namelist())
            for name, size in wanted.items():
                if name not in brought and _size(self.path / name) != size:
                    raise click.ClickException(
                        f"{self.path / name} is missing or was changed; remove {self.path / STATE} and the folder's "
                        "tables, and export again"
                    )
            for name in [*sorted(brought & set(wanted)), *sorted(_BESIDES)]:
                self._take(file, name)
        self._sweep(wanted, set(manifest["tables"]))
        draft = self.path / f"{STATE}.part"
        draft.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        draft.replace(self.path / STATE)

    def _manifest(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.path / "manifest.json").read_bytes())
        except (OSError, ValueError):
            return None
        return found

    def _take(self, archive: zipfile.ZipFile, name: str) -> None:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise click.ClickException(f"the archive names a file outside of the folder: {name!r}")
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f"{target.name}.part")
        with archive.open(name) as source, draft.open("wb") as out:
            shutil.copyfileobj(source, out)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(target)

    def _sweep(self, wanted: dict[str, int], tables: set[str]) -> None:
        """Remove what the tables no longer consist of: partitions that became empty, files of an earlier export."""
        for table in tables:
            for path in sorted((self.path / table).rglob("*"), reverse=True):
                if path.is_dir():
                    if not any(path.iterdir()):
                        path.rmdir()
                elif path.relative_to(self.path).as_posix() not in wanted:
                    path.unlink()


def _files(manifest: dict[str, Any]) -> dict[str, int]:
    """Size in bytes by path."""
    return {
        file["path"]: file["size_bytes"]
        for parts in manifest["tables"].values()
        for part in parts.values()
        for file in part["files"]
    }


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
