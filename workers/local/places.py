"""Where things lie in a data directory, and how a command finds the instance that runs on it."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec

from eventstore.settings import Settings
from workers.local.instance import read_instance


class NotConfiguredError(Exception):
    """There is neither a setting nor a running instance that says which database to use."""


class UnusableFolderError(Exception):
    """The data directory cannot be made or written to; the message says why."""

    def __init__(self, root: Path, error: OSError) -> None:
        super().__init__(
            f"the data directory {root} cannot be used: {error.strerror or error}; choose another with --data-dir"
        )


class Places:
    """Paths inside one data directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.keys = self.root / "keys"
        self.logs = self.root / "logs"
        self.lock = self.root / "up.lock"
        self.postgres = self.root / "postgres"
        self.nats = self.root / "nats"
        self.master_key = self.keys / "master.key"
        self.postgres_password = self.keys / "postgres.password"
        self.nats_password = self.keys / "nats.password"

    def are_new(self) -> bool:
        """Whether nothing was ever started here.

        Raises:
            UnusableFolderError: we may not look.
        """
        try:
            return not self.lock.exists()
        except OSError as error:
            raise UnusableFolderError(self.root, error) from error

    def make(self) -> None:
        """Create the folders that are missing, closed to other people.

        As root the servers run under another account and must be able to walk through `root` (not to list it).

        Raises:
            UnusableFolderError: the file system does not let us.
        """
        try:
            if not self.root.exists():
                self.root.mkdir(parents=True, exist_ok=True)
                self.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in (self.keys, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UnusableFolderError(self.root, error) from error


def complete(settings: Settings) -> Settings:
    """`settings` with database, NATS and key file of the instance on `data_dir` where the environment names none.

    Raises:
        NotConfiguredError: no database is named and nothing was ever started on the data directory.
    """
    places = Places(Path(settings.data_dir))
    found = read_instance(places.root)
    database_url, nats_url = settings.database_url, settings.nats_url
    if database_url is None and found is not None and found.database_url:
        database_url = _with_password(found.database_url, "postgres" in found.embedded, places.postgres_password)
    if nats_url is None and found is not None and found.nats_url:
        nats_url = _with_password(found.nats_url, "nats" in found.embedded, places.nats_password)
    if database_url is None:
        raise NotConfiguredError(
            f"no database: set CREWKIT_DATABASE_URL, or start one with `crewkit up --data-dir {places.root}`"
        )
    key_file = settings.key_file or str(places.master_key)
    return msgspec.structs.replace(settings, database_url=database_url, nats_url=nats_url, key_file=key_file)


def _with_password(url: str, embedded: bool, file: Path) -> str:
    """The URL a program can log in with; a URL that was set through the environment is not ours to complete."""
    if not embedded:
        return url
    try:
        password = file.read_text(encoding="utf-8").strip()
    except OSError:
        return url
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or 'crewkit'}:{quote(password, safe='')}@{place}").geturl()


def version() -> str:
    """The installed version; `0+checkout` where nothing is installed."""
    try:
        return importlib.metadata.version("crewkit")
    except importlib.metadata.PackageNotFoundError:
        return "0+checkout"
