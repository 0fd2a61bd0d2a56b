"""`crewkit sent`: what left this machine, byte for byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from cli.capture import spool
from cli.capture.journal import Journal, Sent, records_of
from cli.capture.paths import here
from domain.words import counted

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def when(text: str) -> datetime:
    """A moment: ISO 8601 (UTC unless it says otherwise), or an age such as `90m`, `24h`, `7d`.

    Raises:
        click.BadParameter: neither.
    """
    if text[-1:] in _UNITS and text[:-1].isdigit():
        return datetime.now(UTC) - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"expected a time like 2026-11-20T21:00:00Z or an age like 24h or 7d, got {text!r}"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Moment(click.ParamType[datetime]):
    """A point in time on the command line."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # noqa: ARG002
        """See `when`."""
        return value if isinstance(value, datetime) else when(str(value))


@click.command()
@click.option("--session", help="Only what belongs to this agent session.")
@click.option("--since", type=Moment(), help="Only what left since then (ISO 8601, or an age: 90m, 24h, 7d).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per request, with its body.")
@click.option("--body", is_flag=True, help="Show the records themselves.")
def sent(session: str | None, since: datetime | None, as_json: bool, body: bool) -> None:
    """Show exactly what left this machine: after redaction, at the content level of its project.

    The log is bounded; what was pruned, refused, or given up because the spool was full is said, too.  Exit codes: 0 ok,
    2 wrong command line.
    """
    paths = here().make()
    journal = Journal(paths)
    shown = 0
    for entry in journal.read():
        if since is not None and entry.at < since:
            continue
        if session is not None and not _about(entry, session):
            continue
        shown += 1
        if as_json:
            click.echo(_as_json(entry, session))
        else:
            _print(entry, session, body=body)
    if as_json:
        return
    if not shown:
        click.echo("Nothing has left" + (" that matches." if session or since else " this machine."))
    _say_losses(journal)


def _about(entry: Sent, session: str) -> bool:
    if session.encode() not in bytes(entry.body) and session not in entry.to:
        return False
    return f"/{session}/" in entry.to or bool(_wanted(entry, session))


def _session_of(record: dict[str, Any]) -> str | None:
    found = record.get("payload", record)
    return found.get("session_id") or record.get("sessionId") if isinstance(found, dict) else None


def _wanted(entry: Sent, session: str | None) -> list[dict[str, Any]]:
    records = records_of(entry, session)
    if session is None or f"/{session}/" in entry.to or entry.to.endswith("/observability/items"):
        return records
    return [record for record in records if _session_of(record) == session]


def _as_json(entry: Sent, session: str | None) -> str:
    """The log line; with a session chosen, `records` are those of the body that belong to it."""
    told: dict[str, Any] = {
        name: getattr(entry, name)
        for name in ("to", "outcome", "status", "accepted", "duplicate", "rejected", "bytes", "sha256")
    }
    told["at"] = entry.at.isoformat()
    if session is None:
        told["body"] = json.loads(bytes(entry.body))
    told["records"] = _wanted(entry, session) if session else entry.records
    return json.dumps(told, ensure_ascii=False)


def _print(entry: Sent, session: str | None, *, body: bool) -> None:
    outcome = {"acknowledged": "ok", "refused": f"refused ({entry.status})", "unknown": "no answer"}[entry.outcome]
    size = f"{entry.records:5} {'record ' if entry.records == 1 else 'records'} {entry.bytes:9,} bytes"
    click.echo(f"{entry.at:%Y-%m-%d %H:%M:%S}Z  {outcome:14} {size}  {entry.to}  sha256 {entry.sha256[:12]}")
    if body:
        for record in _wanted(entry, session):
            click.echo("    " + json.dumps(record, ensure_ascii=False))


def _say_losses(journal: Journal) -> None:
    paths = here()
    pruned, lost = journal.pruned(), spool.overflow(paths)
    if pruned.files and pruned.until:
        gone = counted(pruned.bytes, "byte")
        click.echo(f"The log is bounded: entries up to {pruned.until:%Y-%m-%d %H:%M}Z were pruned, {gone}.")
    if lost.events:
        click.echo(
            f"Never sent: {counted(lost.events, 'event')} in {counted(lost.segments, 'segment')} given up because the spool was full "
            f"(details: {paths.overflow}).",
            err=True,
        )
    refused = sum(path.read_bytes().count(b"\n") for path in paths.rejected.glob("*.jsonl"))
    if refused:
        click.echo(f"Refused: {counted(refused, 'record')} kept in {paths.rejected}.", err=True)
