"""What follows from events: what waits, what was given up, and what to do about it: `crewkit reactions`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import click

from cli.processes.common import data_dir_option, instance_settings, print_json, print_table, run_async

STATES = ("waiting", "done", "skipped", "dead")
LIMIT_DEFAULT = 50

kind_option = click.option("--kind", help="Only of this kind, for example session.summary.")
event_option = click.option("--event", "event_id", type=click.UUID, help="Only of this event.")


@click.group()
def reactions() -> None:
    """Effects that follow events (mail, what a model writes): those that wait, and those that were given up."""


@reactions.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only in this state.")
@kind_option
@click.option(
    "--limit", default=LIMIT_DEFAULT, show_default=True, type=click.IntRange(1, 1000), help="At most so many."
)
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(state: str | None, kind: str | None, limit: int, data_dir: Path | None, as_json: bool) -> None:
    """Show effects with their state and the reason for it, the newest event first.  What is over is kept for a week."""
    import msgspec  # noqa: PLC0415

    from workers.reactor import listed  # noqa: PLC0415

    found: list[dict[str, Any]] = msgspec.to_builtins(
        run_async(listed(instance_settings(data_dir), state, kind, limit))
    )
    if as_json:
        print_json(found)
    else:
        print_table(found, empty="nothing follows from any event at the moment")


@reactions.command("retry")
@kind_option
@event_option
@data_dir_option
def retry_command(kind: str | None, event_id: UUID | None, data_dir: Path | None) -> None:
    """Let effects that were given up be tried again: all, of a kind, of an event."""
    from workers.reactor import retry  # noqa: PLC0415

    count = run_async(_refusing(retry(instance_settings(data_dir), kind, event_id)))
    click.echo(f"{count} will be tried again")


@reactions.command("drop")
@kind_option
@event_option
@click.option("--reason", required=True, help="Why; kept with each.")
@data_dir_option
def drop_command(kind: str | None, event_id: UUID | None, reason: str, data_dir: Path | None) -> None:
    """Go without effects that were given up: all, of a kind, of an event."""
    from workers.reactor import drop  # noqa: PLC0415

    count = run_async(_refusing(drop(instance_settings(data_dir), kind, event_id, reason)))
    click.echo(f"{count} dropped")


async def _refusing(work: Any) -> Any:
    from workers.reactor import Refused  # noqa: PLC0415

    try:
        return await work
    except Refused as error:
        raise click.ClickException(str(error)) from error
