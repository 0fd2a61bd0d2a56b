"""`crewkit import`: read agents' own transcripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from cli.capture.config import ConfigError, load
from cli.capture.paths import here
from cli.capture.sending import Report, Sender
from cli.capture.transcripts import Source, discover
from cli.client import Connection, resolve
from cli.sent import Moment
from domain.words import counted

PROBLEMS_SHOWN_MAX = 20


@click.command("import")
@click.argument("places", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--agent", type=click.Choice(["claude", "codex"]), help="Whose files these are (default: from their names)."
)
@click.option("--since", type=Moment(), help="Only files changed since then (ISO 8601, or an age: 24h, 30d).")
@click.option("--dry-run", is_flag=True, help="Read and count, send nothing, remember nothing.")
@click.option("--again", is_flag=True, help="Read from the beginning, also what was imported before.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def import_(
    places: Sequence[Path], agent: str | None, since: datetime | None, dry_run: bool, again: bool, as_json: bool
) -> None:
    """Import transcripts: Claude Code's projects folder, single files, Codex's sessions folder.

    Redaction and the content level of each project apply.  Safe to repeat: files that only grew go on where they stopped, and
    the service recognises what it has.  After an interruption the same command continues.  Lines that cannot be read are
    counted.  Exit codes: 0 ok, 1 refused or failed (also: some files or lines were refused), 2 wrong command line, 3 the
    service cannot be reached.
    """
    paths = here().make()
    try:
        config = load(paths)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    connection = Connection("http://dry-run.invalid", "", "", "--dry-run") if dry_run else resolve()
    sources = discover(places, agent, since)
    sender = Sender(paths, connection, config, dry_run=dry_run, again=again)
    report = _with_progress(sender, sources) if sys.stderr.isatty() and not as_json else sender.send_all(sources)
    _say(report, as_json=as_json, dry_run=dry_run)
    if report.problems or report.rejected:
        click.get_current_context().exit(1)


def _with_progress(sender: Sender, sources: list[Source]) -> Report:
    from rich.console import Console  # noqa: PLC0415 - costs start-up time, needed only here
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    total = sum(_size(source) for source in sources)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(counted(len(sources), "transcript"), total=total)
        sender.progress = lambda size: bar.advance(task, size)
        return sender.send_all(sources)


def _size(source: Source) -> int:
    try:
        return Path(source.path).stat().st_size
    except OSError:
        return 0


def _say(report: Report, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        told = {name: getattr(report, name) for name in Report.__struct_fields__}
        click.echo(json.dumps({**told, "sessions": len(report.sessions)}))
        return
    sent = "would leave" if dry_run else "sent"
    taken = report.lines - report.left_out - report.bad
    click.echo(
        f"{counted(report.files, 'file')} ({report.unchanged} without news), {counted(len(report.sessions), 'session')}: "
        f"{counted(taken, 'record')} {sent}, "
        f"{report.left_out} left out, {report.bad} unreadable"
    )
    if not dry_run:
        click.echo(f"{report.accepted} new, {report.duplicate} known already, {report.rejected} refused")
    for problem in report.problems[:PROBLEMS_SHOWN_MAX]:
        click.echo(f"could not read {problem}", err=True)
