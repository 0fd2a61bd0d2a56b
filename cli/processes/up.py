"""`crewkit up` and `crewkit down`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import click
import msgspec

from cli.processes.common import data_dir_option, plain_logs, read_settings

DETACHED_START_MAX_S = 900.0
DOWN_MAX_S = 120.0
POLL_S = 0.05


@click.command()
@data_dir_option
@click.option("--host", help="Address the API binds to.  [default: 127.0.0.1; env: CREWKIT_HOST]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port of the API; 0: any.  [default: 8000; env: CREWKIT_PORT]"
)
@click.option("--workers", type=click.IntRange(1, 64), help="API processes.  [default: 1; env: CREWKIT_API_WORKERS]")
@click.option("--next-free-port", is_flag=True, help="When the port is taken, use the next free one.")
@click.option("--detach", is_flag=True, help="Come back when everything is ready; `crewkit down` stops it.")
def up(
    data_dir: Path | None, host: str | None, port: int | None, workers: int | None, next_free_port: bool, detach: bool
) -> None:
    """Start everything on this machine: Postgres, NATS, API, relay, projector, scheduler, sealer, reactor,
    analytics.

    Ctrl-C stops everything.  CREWKIT_DATABASE_URL and CREWKIT_NATS_URL take the place of the embedded servers.
    """
    plain_logs()
    from workers.local.machine import AlreadyRunningError, Machine, PortBusyError, Wanted  # noqa: PLC0415
    from workers.local.places import Places, UnusableFolderError  # noqa: PLC0415
    from workers.local.server import ServerError  # noqa: PLC0415
    from workers.supervisor import StartError  # noqa: PLC0415

    settings = read_settings(data_dir)
    places = Places(Path(settings.data_dir))
    wanted = Wanted(
        data_dir=places.root,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
        api_workers=settings.api_workers if workers is None else workers,
        next_free_port=next_free_port,
    )
    if detach:
        _detach(wanted, places)
        return
    from eventstore.observe import configure  # noqa: PLC0415

    configure(settings.log_format, settings.log_level, process="supervisor")
    try:
        asyncio.run(Machine(settings, wanted, click.echo).run())
    except (AlreadyRunningError, PortBusyError, UnusableFolderError, ServerError, StartError) as error:
        raise click.ClickException(str(error).removeprefix("Error: ")) from error


def _detach(wanted: object, places: object) -> None:
    """Start `crewkit up` in a session of its own and wait until it is ready or has failed."""
    from workers.local.instance import read_instance  # noqa: PLC0415
    from workers.local.machine import PortBusyError, Wanted, listen_for  # noqa: PLC0415
    from workers.local.places import Places, UnusableFolderError  # noqa: PLC0415
    from workers.main import command  # noqa: PLC0415

    assert isinstance(wanted, Wanted)  # noqa: S101  narrows for the type checkers; the classes are imported late
    assert isinstance(places, Places)  # noqa: S101
    words = command("up", "--data-dir", str(wanted.data_dir), "--host", wanted.host, "--port", str(wanted.port))
    words += ["--workers", str(wanted.api_workers), *(["--next-free-port"] if wanted.next_free_port else [])]
    try:
        if places.are_new():
            listen_for(wanted).close()  # a start that is refused leaves no folder with a log behind
        places.make()
    except (PortBusyError, UnusableFolderError) as error:
        raise click.ClickException(str(error)) from error
    log = places.logs / "up.log"
    start = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + DETACHED_START_MAX_S
    while time.monotonic() < deadline:
        found = read_instance(places.root)
        if found is not None and found.pids.get("supervisor") == process.pid:
            click.echo(log.read_bytes()[start:].decode(errors="replace").strip())
            return
        if process.poll() is not None:
            raise click.ClickException(
                log.read_bytes()[start:].decode(errors="replace").strip().removeprefix("Error: ") or "it ended at once"
            )
        time.sleep(POLL_S)
    process.terminate()
    raise click.ClickException(f"not ready after {DETACHED_START_MAX_S:.0f} s; see {log}")


@click.command()
@data_dir_option
def down(data_dir: Path | None) -> None:
    """Stop what `crewkit up` started on a data directory, and wait until it is gone."""
    from workers.local import nats, postgres  # noqa: PLC0415
    from workers.local.instance import (  # noqa: PLC0415
        SUPERVISOR,
        read_instance,
        read_processes,
        supervisor_of,
        write_instance,
    )
    from workers.local.places import Places  # noqa: PLC0415
    from workers.local.process import is_running, stop  # noqa: PLC0415

    places = Places(Path(read_settings(data_dir).data_dir))
    running = supervisor_of(places.root)
    if running is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_MAX_S
        while is_running(running) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if is_running(running):
            os.kill(running.pid, signal.SIGKILL)
    # What a killed supervisor may have left: our own processes first, then the servers they use.
    left = {name: identity for name, identity in read_processes(places.root).running().items() if name != SUPERVISOR}
    for name in sorted(left, key=lambda name: name in {"postgres", "nats"}):
        how = signal.SIGINT if name == "postgres" else signal.SIGTERM
        stop(left[name], how, DOWN_MAX_S)
    also = postgres.stop_leftover(places.postgres.resolve() / "data"), nats.stop_leftover(places.nats.resolve())
    if (last := read_instance(places.root)) is not None and last.pids:
        write_instance(places.root, msgspec.structs.replace(last, pids={}))
    if running is None and not left and not any(also):
        click.echo(f"nothing runs on {places.root}")
    else:
        click.echo(f"stopped what ran on {places.root}")
