"""`crewkit keys`: the master key file, and having it wrapped by a key management service."""

from __future__ import annotations

import os
from pathlib import Path

import click

from eventstore.settings import load


@click.group()
def keys() -> None:
    """The master key that wraps people's keys."""


@keys.command("wrap")
@click.option("--kms", type=click.Choice(["aws"]), default="aws", show_default=True, help="The service.")
@click.option("--key-id", required=True, help="Its key: an id, an alias or an ARN.")
@click.option("--region", help="Its region.  [default: AWS_REGION]")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="The file.  [env: CREWKIT_KEY_FILE]")
def wrap_command(kms: str, key_id: str, region: str | None, key_file: Path | None) -> None:
    """Let a KMS wrap the key file, in place: from then on processes ask the service for it once, when they start.

    Running it again wraps with another key of the service.  Make sure of a backup of the plain key, or of the service's key,
    first: what was sealed is lost with both.  Exit codes: 0 done, 1 refused or the service cannot be reached, 2 wrong command line.
    """
    from eventstore import kms as services  # noqa: PLC0415
    from eventstore.kms.aws import KmsError  # noqa: PLC0415
    from eventstore.sealing import load_or_create_master_key  # noqa: PLC0415

    path = _key_file(key_file)
    try:
        key = load_or_create_master_key(path)
        content = services.wrap(key, kms, key_id, region)
        if services.unwrap(content) != key:
            raise click.ClickException("the service does not give back what it was given; nothing was changed")
    except (KmsError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    _replace(path, content)
    click.echo(f"{path} is wrapped by {kms} key {key_id}; restart every process")


@keys.command("unwrap")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="The file.  [env: CREWKIT_KEY_FILE]")
def unwrap_command(key_file: Path | None) -> None:
    """Put the plain key back into the file.

    Exit codes: 0 done, 1 refused or the service cannot be reached, 2 wrong command line.
    """
    from base64 import urlsafe_b64encode  # noqa: PLC0415

    from eventstore.sealing import load_or_create_master_key  # noqa: PLC0415

    path = _key_file(key_file)
    try:
        key = load_or_create_master_key(path)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    _replace(path, urlsafe_b64encode(key))
    click.echo(f"{path} holds the plain key")


def _key_file(given: Path | None) -> Path:
    """The file that is there: making a key is `crewkit up`'s.

    Raises:
        ClickException: there is none.
    """
    settings = load()
    path = given or Path(settings.key_file or Path(settings.data_dir) / "keys" / "master.key")
    if not path.is_file():
        raise click.ClickException(f"{path}: there is no key file")
    return path


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all, and durable: half a key file would lose everything that is sealed."""
    fresh = path.with_name(f".{path.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
