"""Single processes, as production runs them: `serve`, `worker`, `migrate`."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import click

from cli.processes.common import data_dir_option, instance_settings, plain_logs, read_settings, run_async


@click.command()
@click.option("--host", help="Address to bind to.  [default: 127.0.0.1; env: CREWKIT_HOST]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to bind to.  [default: 8000; env: CREWKIT_PORT]")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes.  [default: 1; env: CREWKIT_API_WORKERS]")
@click.option("--fd", type=click.IntRange(3), help="Serve on this inherited listening socket instead.")
def serve(host: str | None, port: int | None, workers: int | None, fd: int | None) -> None:
    """Run the HTTP service alone (`crewkit up` runs everything)."""
    plain_logs()
    from workers.serve import run_api, run_group  # noqa: PLC0415

    settings = instance_settings()
    _export(settings.database_url, settings.nats_url, settings.key_file)
    if fd is not None:
        run_api(settings, socket.socket(fileno=fd))
        return
    from workers.local.ports import listen, owner  # noqa: PLC0415

    chosen_host, chosen_port = host or settings.host, settings.port if port is None else port
    try:
        listening = listen(chosen_host, chosen_port)
    except OSError as error:
        who = owner(chosen_port)
        raise click.ClickException(
            f"cannot listen on {chosen_host}:{chosen_port}: {error.strerror}{f' by {who}' if who else ''}"
        ) from error
    click.echo(f"serving on {chosen_host}:{listening.getsockname()[1]}", err=True)
    count = workers or settings.api_workers
    if count == 1:
        run_api(settings, listening)
    else:
        asyncio.run(run_group(settings, listening, count))


@click.group()
def worker() -> None:
    """Run one background process alone (`crewkit up` runs them all)."""


@worker.command()
def relay() -> None:
    """Publish committed events to NATS JetStream, in order."""
    _work("relay")


@worker.command()
def projector() -> None:
    """Fold events into the read models."""
    _work("projector")


@worker.command()
def scheduler() -> None:
    """Issue what is due by the clock, such as timing out sessions that went silent."""
    _work("scheduler")


@worker.command()
def sealer() -> None:
    """Sign Merkle checkpoints over the log, so that any later change of it can be proven."""
    _work("sealer")


@worker.command()
def reactor() -> None:
    """Do what follows from events: send mail, have sessions written about by a model."""
    _work("reactor")


@click.command()
@data_dir_option
def migrate(data_dir: Path | None) -> None:
    """Bring the database to the newest schema.  Safe to repeat, also from several machines at once."""
    from eventstore import migrate as schema  # noqa: PLC0415

    settings = instance_settings(data_dir)
    try:
        applied = run_async(schema.migrate(settings.database_url or ""))
    except schema.MigrationError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")


@click.command(hidden=True)
@data_dir_option
def prepare(data_dir: Path | None) -> None:
    """Migrate, found the organization and leave a working key in crewkit.json (a step of `crewkit up`)."""
    from eventstore.migrate import MigrationError  # noqa: PLC0415
    from workers.prepare import prepare as work  # noqa: PLC0415

    settings = read_settings(data_dir)
    try:
        applied = run_async(work(settings, Path(settings.data_dir)))
    except MigrationError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"prepared; migrations applied: {', '.join(applied) or 'none'}")


@worker.command()
def analytics() -> None:
    """Keep a DuckDB file of the sessions read model and answer analytics questions; more of them answer more."""
    _work("analytics")


def _work(name: str) -> None:
    plain_logs()
    from workers.main import run_worker  # noqa: PLC0415

    settings = instance_settings()
    _export(settings.database_url, settings.nats_url, settings.key_file)
    run_worker(name, settings)


def _export(database_url: str | None, nats_url: str | None, key_file: str | None) -> None:
    """Code that reads the settings again in this process, or in a child, must find the same."""
    for name, value in (("DATABASE_URL", database_url), ("NATS_URL", nats_url), ("KEY_FILE", key_file)):
        if value:
            os.environ[f"CREWKIT_{name}"] = value
