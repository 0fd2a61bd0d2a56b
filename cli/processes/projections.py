"""Look at projections, and repair one that stopped: `crewkit projections`, `crewkit rebuild`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.processes.common import data_dir_option, instance_settings, print_json, print_table, run_async


@click.group()
def projections() -> None:
    """The read models: how far they are, and what to do when one stopped at an event."""


@projections.command("status")
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(data_dir: Path | None, as_json: bool) -> None:
    """Show position, lag and state of every projection; exit code 1 when one has failed."""
    import msgspec  # noqa: PLC0415

    from workers.projector import status  # noqa: PLC0415

    found: list[dict[str, Any]] = msgspec.to_builtins(run_async(status(instance_settings(data_dir))))
    if as_json:
        print_json(found)
    else:
        print_table([_row(one) for one in found], empty="no projection has run yet")
    if any(one.get("status") == "failed" for one in found):
        raise SystemExit(1)


def _row(one: dict[str, Any]) -> dict[str, Any]:
    """A row of the table: skipped events by position, times to the second."""
    skipped = ", ".join(str(each["position"]) for each in one["skipped"])
    return {
        **one,
        "active": "yes" if one["active"] else "",
        "skipped": skipped,
        "updated_at": one["updated_at"][:19] + "Z",
    }


@projections.command("retry")
@click.argument("name")
@data_dir_option
def retry_command(name: str, data_dir: Path | None) -> None:
    """Let projection NAME, which stopped at an event, try again from there."""
    from workers.projector import retry  # noqa: PLC0415

    _tell(run_async(_refusing(retry(instance_settings(data_dir), name))), f"projection {name!r} tries again")


@projections.command("skip")
@click.argument("name")
@click.argument("position", type=click.IntRange(1))
@click.option("--reason", required=True, help="Why; recorded with the projection.")
@data_dir_option
def skip_command(name: str, position: int, reason: str, data_dir: Path | None) -> None:
    """Let projection NAME go on without the event at POSITION, at which it stopped."""
    from workers.projector import skip  # noqa: PLC0415

    done = run_async(_refusing(skip(instance_settings(data_dir), name, position, reason)))
    _tell(done, f"projection {name!r} goes on without the event at position {position}")


@click.command()
@click.argument("name", metavar="PROJECTION")
@data_dir_option
def rebuild(name: str, data_dir: Path | None) -> None:
    """Fill PROJECTION anew from the first event, then switch readers over in one step."""
    from workers.projector import rebuild as work  # noqa: PLC0415

    _tell(run_async(_refusing(work(instance_settings(data_dir), name))), f"projection {name!r} is rebuilt")


async def _refusing(work: Any) -> Any:
    """Names that do not exist and states that do not fit are refusals, not crashes."""
    from workers.projector import Refused, StoppedError  # noqa: PLC0415

    try:
        return await work
    except (Refused, StoppedError) as error:
        raise click.ClickException(str(error)) from error


def _tell(answer: Any, otherwise: str) -> None:
    click.echo(answer if isinstance(answer, str) else otherwise)
