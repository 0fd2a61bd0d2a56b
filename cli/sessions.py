"""`crewkit sessions`: what agents did, as tables or JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
import msgspec

from cli._ask import open_client
from cli._insights import insight_lines
from cli.client import Client, UnreachableError
from cli.sent import Moment
from domain.words import counted
from eventstore.settings import load
from schemas.sessions import (
    Cost,
    Happenings,
    Lines,
    LlmSessionDetail,
    ProcessUse,
    SessionDetail,
    SessionPage,
    SessionSummary,
    SubagentDetail,
    TokenTotals,
    Worktree,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

LIMIT_DEFAULT = 50
PAGE_MAX = 200
RECONNECT_FIRST_S = 1.0
RECONNECT_MAX_S = 30.0
RECONNECTS_MAX = 20
STREAM_MARKS = frozenset({"open", "lagged", "shut-out"})  # what a stream says about itself is no event
TITLE_CHARS = 48
TABLE_WIDTH = 500  # where the output is not a terminal, nothing is folded


@click.group()
def sessions() -> None:
    """List, show and follow sessions.

    Exit codes: 0 ok, 1 refused (no such session, no right), 2 wrong command line, 3 the service cannot be reached.
    """


@sessions.command("list")
@click.option("--status", help="active, ended or timed_out")
@click.option("--user", help="Whose sessions: a person's id or e-mail address.")
@click.option("--project")
@click.option("--repo", help="owner/name")
@click.option("--branch")
@click.option("--model")
@click.option("--since", type=Moment(), help="Active since then (ISO 8601, or an age: 90m, 24h, 7d).")
@click.option("--until", type=Moment(), help="Active before then.")
@click.option("--text", help="Words in prompts, repository, branch, project or id.")
@click.option("--limit", default=LIMIT_DEFAULT, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="The service's objects, one per line.")
def list_(limit: int, as_json: bool, **filters: Any) -> None:
    """List sessions, the newest activity first.

    Exit codes: 0 ok, 1 refused, 2 wrong command line, 3 the service cannot be reached.
    """
    query = {name: _told(value) for name, value in filters.items() if value is not None}
    with open_client() as client:
        if as_json:
            for raw in _raw_pages(client, query, limit):
                click.echo(json.dumps(raw, ensure_ascii=False))
            return
        decoder = msgspec.json.Decoder(SessionPage)
        found: list[SessionSummary] = []
        cursor: str | None = None
        while len(found) < limit:
            step = {**query, "limit": min(PAGE_MAX, limit - len(found)), "cursor": cursor}
            page = decoder.decode(client.get("/sessions", step))
            found += page.items
            cursor = page.next_cursor
            if cursor is None or not page.items:
                break
    _table(found[:limit], more=cursor is not None)


def _told(value: Any) -> Any:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _raw_pages(client: Client, query: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    """The service's own objects: nothing is lost because this program is older than the service."""
    left, cursor = limit, None
    while left > 0:
        page = json.loads(client.get("/sessions", {**query, "limit": min(PAGE_MAX, left), "cursor": cursor}))
        yield from page["items"][:left]
        left -= len(page["items"])
        cursor = page.get("next_cursor")
        if cursor is None or not page["items"]:
            return


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415 - costs start-up time

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=TABLE_WIDTH)


def money(usd_micros: int | None, *, complete: bool = True) -> str:
    """Dollars with all six digits; what is unknown is said to be unknown, never 0."""
    if usd_micros is None:
        return "unknown"
    sign = "-" if usd_micros < 0 else ""
    whole, rest = divmod(abs(usd_micros), 1_000_000)
    return f"{'' if complete else '≥ '}{sign}${whole:,}.{rest:06}"


def tokens(totals: TokenTotals) -> str:
    """All kinds of tokens that were used."""
    parts = [f"{totals.input:,} in", f"{totals.output:,} out"]
    for count, name in (
        (totals.cache_read, "cache read"),
        (totals.cache_write_5m, "cache write 5m"),
        (totals.cache_write_1h, "cache write 1h"),
    ):
        if count:
            parts.append(f"{count:,} {name}")
    return ", ".join(parts)


def _moment(moment: datetime | None) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}" if moment else "–"


def _span(duration_ms: int | None) -> str:
    if duration_ms is None:
        return "–"
    seconds = duration_ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _table(found: list[SessionSummary], *, more: bool) -> None:
    from rich.table import Table  # noqa: PLC0415 - costs start-up time
    from rich.text import Text  # noqa: PLC0415

    if not found:
        click.echo("No sessions.")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("session", "agent", "status", "activity", "took"):
        table.add_column(name, no_wrap=True)
    for name in ("repository", "title"):
        table.add_column(name, overflow="ellipsis", max_width=TITLE_CHARS, no_wrap=True)
    for name in ("turns", "tools", "tokens", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        place = " ".join(part for part in (one.repo or one.project, one.branch and f"({one.branch})") if part)
        all_tokens = one.tokens.input + one.tokens.output + one.tokens.cache_read
        all_tokens += one.tokens.cache_write_5m + one.tokens.cache_write_1h
        failed = f" ({one.counts.tool_failures} failed)" if one.counts.tool_failures else ""
        cells = (
            one.id, one.agent or "–", one.status, _moment(one.last_activity_at), _span(one.duration_ms), place or "–",
            one.title or "–", str(one.counts.turns), f"{one.counts.tool_calls}{failed}", f"{all_tokens:,}",
            money(one.cost_usd_micros, complete=one.cost_complete or one.cost_usd_micros is None),
        )  # fmt: skip
        table.add_row(*(Text(cell) for cell in cells))  # Text: a title is no markup
    _console().print(table)
    if more:
        click.echo("There are more: raise --limit.")


@sessions.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--json", "as_json", is_flag=True, help="The service's object.")
def show(session_id: str, as_json: bool) -> None:
    """Show one session: its tree, tokens, cost per source and whether the sources agree, and what a model wrote about it.

    Exit codes: 0 ok, 1 refused (no such session), 2 wrong command line, 3 the service cannot be reached.
    """
    with open_client() as client:
        body = client.get(f"/sessions/{quote(session_id, safe='')}")
        taught = b"{}" if as_json else client.get(f"/sessions/{quote(session_id, safe='')}/insights")
    if as_json:
        click.echo(json.dumps(json.loads(body), ensure_ascii=False, indent=2))
        return
    detail = msgspec.json.decode(body, type=SessionDetail)
    console = _console()
    console.print(_tree(detail))
    for line in (*_cost_lines(detail.cost), *insight_lines(taught)):
        console.print(line, markup=False)


def _tree(detail: SessionDetail) -> Tree:
    from rich.text import Text  # noqa: PLC0415 - costs start-up time
    from rich.tree import Tree  # noqa: PLC0415

    one = detail.session
    head = f"Session {one.id}  {one.status}" + (f", {one.outcome}" if one.outcome else "")
    root = Tree(Text(head, style="bold"))
    facts = [
        one.title and f"“{one.title}”",
        f"status by rule: {one.status_rule}" + (f"; outcome by rule: {one.outcome_rule}" if one.outcome_rule else ""),
        _place(one.repo, one.branch, one.commit, one.project),
        _worktree(detail.worktree),
        f"{_moment(one.started_at)} – {_moment(one.last_activity_at)}, took {_span(one.duration_ms)}",
    ]
    for fact in facts:
        if fact:
            root.add(Text(fact))
    if len(detail.llm_sessions) > 1:
        _together(root, one)
    for conversation in detail.llm_sessions:
        _conversation(root, conversation)
    return root


def _together(root: Tree, one: SessionSummary) -> None:
    """What all conversations of a session come to; its cost stands below the tree."""
    from rich.text import Text  # noqa: PLC0415 - costs start-up time

    branch = root.add(Text(f"together, {one.llm_sessions:,} conversations: {', '.join(one.models) or 'model unknown'}"))
    branch.add(Text(_happened(one.counts)))
    branch.add(Text(f"tokens: {tokens(one.tokens)}"))
    if one.lines.added or one.lines.removed:
        branch.add(Text(_lines(one.lines)))
    if one.counts.tool_calls:
        branch.add(Text(_tool_calls(one.counts)))


def _happened(counts: Happenings) -> str:
    """The counts in words.  Those that people look for are told also where they are 0: else they could be overlooked."""
    told = [
        (counts.prompts, "prompt", "prompts", True),
        (counts.turns, "turn", "turns", True),
        (counts.failed_turns, "failed turn", "failed turns", False),
        (counts.model_calls, "model call", "model calls", True),
        (counts.model_failures, "failed model call", "failed model calls", False),
        (counts.permission_requests, "permission request", "permission requests", True),
        (counts.compactions, "compaction", "compactions", True),
        (counts.model_switches, "model switch", "model switches", True),
        (counts.subagents, "subagent", "subagents", False),
        (counts.runs, "run", "runs", False),
    ]
    return ", ".join(counted(count, one, many) for count, one, many, always in told if count or always)


def _lines(lines: Lines) -> str:
    return f"lines: +{lines.added} -{lines.removed}"


def _tool_calls(counts: Happenings) -> str:
    return f"tools: {counted(counts.tool_calls, 'call')}, {counts.tool_failures} failed, {counts.tool_denials} denied"


def _worktree(one: Worktree | None) -> str | None:
    if one is None:
        return None
    return f"worktree {one.path or '(erased)'}, branch {one.branch}, {one.state}"


def _place(repo: str | None, branch: str | None, commit: str | None, project: str | None) -> str | None:
    parts = [
        part for part in (repo or project, branch and f"branch {branch}", commit and f"commit {commit[:12]}") if part
    ]
    return ", ".join(parts) or None


def _conversation(root: Tree, one: LlmSessionDetail) -> None:
    from rich.text import Text  # noqa: PLC0415 - costs start-up time

    version = f" {one.agent_version}" if one.agent_version else ""
    models = ", ".join(one.models) or "model unknown"
    branch = root.add(Text(f"LlmSession {one.id}  {one.agent}{version}, {models}, {one.status}"))
    counts = one.counts
    branch.add(Text(_happened(counts)))
    branch.add(Text(f"tokens: {tokens(one.tokens)}"))
    branch.add(Text(_items(one)))
    if one.process is not None:
        branch.add(Text(_process(one.process)))
    complete = one.cost.complete or one.cost.cost_usd_micros is None
    branch.add(Text(f"cost: {money(one.cost.cost_usd_micros, complete=complete)} ({one.cost.reason})"))
    if one.lines.added or one.lines.removed:
        branch.add(Text(_lines(one.lines)))
    if one.tools:
        tools = branch.add(Text(_tool_calls(counts)))
        for tool in one.tools:
            notes = [
                f"{n} {what}"
                for n, what in ((tool.failed, "failed"), (tool.denied, "denied"), (tool.unfinished, "open"))
                if n
            ]
            tools.add(Text(f"{tool.name} × {tool.calls}" + (f" ({', '.join(notes)})" if notes else "")))
    for subagent in one.subagents:
        branch.add(Text(_subagent(subagent)))
    if one.unknown_kinds:
        kinds = ", ".join(f"{kind} × {count}" for kind, count in sorted(one.unknown_kinds.items()))
        branch.add(Text(f"records of kinds this version does not know: {kinds}"))


def _process(one: ProcessUse) -> str:
    told: list[str] = []
    if one.cpu_peak_percent is not None:
        told.append(f"cpu {one.cpu_mean_percent:.0f} % (peak {one.cpu_peak_percent:.0f} %)")
    if one.memory_peak_bytes is not None:
        mean, peak = ((value or 0) / 2**20 for value in (one.memory_mean_bytes, one.memory_peak_bytes))
        told.append(f"memory {mean:,.0f} MiB (peak {peak:,.0f} MiB)")
    return f"process: {', '.join(told)}, {counted(one.measurements, 'measurement')}"


def _items(one: LlmSessionDetail) -> str:
    """How far the records have got on their way to the object store."""
    kept = one.consolidated
    stored = (
        f": {kept.items:,} in {counted(kept.objects, 'object')}, {counted(kept.bytes, 'byte')}" if kept.objects else ""
    )
    failed = f" ({counted(kept.failures, 'failed attempt')})" if kept.failures else ""
    return f"items: {one.stream_status}{stored}{failed}"


def _subagent(one: SubagentDetail) -> str:
    failures = f" ({one.tool_failures} failed)" if one.tool_failures else ""
    cost = f", {money(one.cost_usd_micros)}" if one.cost_usd_micros is not None else ""
    return (
        f"SubagentSession {one.agent_id}  {one.agent_type or 'agent'}, {one.status}, {_span(one.duration_ms)}: "
        f"{counted(one.model_calls, 'model call')}, {counted(one.tool_calls, 'tool call')}{failures}, {tokens(one.tokens)}{cost}"
    )


def _cost_lines(cost: Cost) -> Iterator[str]:
    sources = cost.sources
    yield f"Cost      {money(cost.cost_usd_micros, complete=cost.complete or cost.cost_usd_micros is None)}"
    for name, value in (
        ("telemetry", sources.telemetry_usd_micros),
        ("transcript", sources.transcript_usd_micros),
        ("metric", sources.metric_usd_micros),
    ):
        yield f"  {name:11} {money(value) if value is not None else 'not told'}"
    yield f"  {'priced':11} {money(sources.priced_usd_micros, complete=sources.priced_complete)}"
    if sources.unpriced_calls:
        models = ", ".join(sources.unpriced_models) or "unnamed models"
        yield f"  without a known price: {counted(sources.unpriced_calls, 'call')} ({models})"
    verdict = cost.reconciliation
    yield f"Reconciliation: {verdict.verdict}" + (f" ({', '.join(verdict.sources)})" if verdict.sources else "")
    for difference in verdict.differences:
        yield f"  {difference.left} - {difference.right} = {money(difference.usd_micros)}"
    for cause in verdict.causes:
        yield f"  because: {cause.text}"


@sessions.command()
@click.argument("session_id", metavar="[SESSION]", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="Stop after so many events; the marks of the stream itself (open, lagged) do not count.",
)
def tail(session_id: str | None, as_json: bool, count: int | None) -> None:
    """Follow a session live, or with no SESSION everything in the organization.  Ctrl-C ends it.

    When the stream breaks it goes on where it stopped.  Exit codes: 0 ok, 1 refused, 2 wrong command line, 3 the service
    cannot be reached.
    """
    place = f"/sessions/{quote(session_id, safe='')}/events/stream" if session_id else "/events/stream"
    seen, failures, last = 0, 0, None
    with open_client(timeout_s=load().heartbeat_timeout_s) as client:
        while True:
            try:
                for name, ident, data in client.events(client.path(place), last):
                    failures, last = 0, ident or last
                    _print_event(name, data, as_json=as_json)
                    seen += name not in STREAM_MARKS
                    if count is not None and seen >= count:
                        return
            except UnreachableError:
                failures += 1
                if last is None or failures > RECONNECTS_MAX:
                    raise
            except KeyboardInterrupt:
                return
            time.sleep(min(RECONNECT_MAX_S, RECONNECT_FIRST_S * 2 ** min(failures, 5)))


def _print_event(name: str, data: str, *, as_json: bool) -> None:
    try:
        told = json.loads(data)
    except ValueError:
        told = data
    if as_json:
        click.echo(json.dumps({"event": name, "data": told}, ensure_ascii=False))
        return
    if isinstance(told, dict):
        shown = "  ".join(f"{key}={_short(value)}" for key, value in told.items() if value not in (None, "", [], {}))
        click.echo(f"{datetime.now().astimezone():%H:%M:%S}  {name:20} {shown}")
    else:
        click.echo(f"{datetime.now().astimezone():%H:%M:%S}  {name:20} {told}")


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
