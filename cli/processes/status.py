"""`crewkit status`: what runs, where, and how far everything is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from cli.processes.common import data_dir_option, print_json, print_table, read_settings


@click.command()
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show processes, address, positions and lag.  Exit code 0: all is well; 1: something is not; 3: nothing runs."""
    found = gather(Path(read_settings(data_dir).data_dir))
    if as_json:
        print_json(found)
    else:
        _show(found)
    if not found["running"]:
        raise SystemExit(3)
    if found["health"] != "ok" or any(one["state"] != "running" for one in found["processes"]):
        raise SystemExit(1)


def gather(root: Path) -> dict[str, Any]:
    """Everything `status` knows about the instance on a data directory, as plain data."""
    from workers.local.instance import read_instance, read_processes, supervisor_of  # noqa: PLC0415
    from workers.local.process import is_running, memory_kib  # noqa: PLC0415
    from workers.serve import health  # noqa: PLC0415

    known, found = read_processes(root).known, read_instance(root)
    running = supervisor_of(root) is not None
    pids = {identity.pid for identity in known.values()}
    processes = [
        {
            "name": name,
            "pid": identity.pid,
            "state": "running" if is_running(identity) else "gone",
            "memory_mb": round(memory_kib(identity.pid, pids) / 1024, 1),
        }
        for name, identity in sorted(known.items())
    ]
    answer: dict[str, Any] = {
        "data_dir": str(root),
        "running": running,
        "url": found.url if found else None,
        "organization": found.organization if found else None,
        "version": found.version if found else None,
        "started_at": found.started_at if found else None,
        "database_url": found.database_url if found else None,
        "nats_url": found.nats_url if found else None,
        "processes": processes,
        "health": "down",
        "components": {},
    }
    if running and found is not None and found.pids:
        address = urlsplit(found.url)
        report = health(address.hostname or "127.0.0.1", address.port or 80)
        if report is not None:
            answer |= {"health": report.get("status", "down"), "components": report.get("components", {})}
    elif running:
        answer["health"] = "starting"
    return answer


def _show(found: dict[str, Any]) -> None:
    if not found["running"]:
        click.echo(f"nothing runs on {found['data_dir']}; start it with `crewkit up`")
        if found["processes"]:
            print_table(found["processes"])
        return
    since = ""
    if isinstance(started := found["started_at"], datetime):
        since = f", up {_span((datetime.now(UTC) - started).total_seconds())}"
    click.echo(f"crewkit {found['version']} at {found['url']}: {found['health']}{since}")
    click.echo(f"organization {found['organization']}, data in {found['data_dir']}\n")
    print_table(found["processes"])
    click.echo()
    print_table(
        [
            {
                "component": name,
                "status": part.get("status"),
                "position": part.get("details", {}).get("position", part.get("details", {}).get("head")),
                "lag": part.get("details", {}).get("lag"),
                "remark": part.get("message", ""),
            }
            for name, part in sorted(found["components"].items())
        ],
        empty="the service does not answer",
    )


def _span(seconds: float) -> str:
    """A length of time in its largest two units."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
