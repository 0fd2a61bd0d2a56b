"""`crewkit events`: the history, straight from the event store."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from cli._ask import open_client
from cli.sent import Moment

LIMIT_DEFAULT = 50
PAGE_MAX = 200


@click.command()
@click.option("--stream", help='One history, for example "LlmSession:0447534f-…".')
@click.option("--type", "kind", help="One type, for example hook.recorded.v1.")
@click.option("--actor", help="Who did it, for example key:….")
@click.option("--since", type=Moment(), help="Recorded since then (ISO 8601, or an age: 90m, 24h, 7d).")
@click.option("--until", type=Moment(), help="Recorded before then.")
@click.option("--as-of", help="The history as it was at this position or time.")
@click.option("--limit", default=LIMIT_DEFAULT, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="The service's objects, one per line.")
def events(
    kind: str | None, since: datetime | None, until: datetime | None, limit: int, as_json: bool, **more: Any
) -> None:
    """Show stored events.

    Exit codes: 0 ok, 1 refused, 2 wrong command line, 3 the service cannot be reached.
    """
    query: dict[str, Any] = {**more, "type": kind, "since": _utc(since), "until": _utc(until)}
    left, cursor = limit, None
    with open_client() as client:
        while left > 0:
            page = json.loads(client.get("/events", {**query, "limit": min(PAGE_MAX, left), "cursor": cursor}))
            for event in page["items"][:left]:
                click.echo(json.dumps(event, ensure_ascii=False) if as_json else _line(event))
            left -= len(page["items"])
            cursor = page.get("next_cursor")
            if cursor is None:
                return


def _utc(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None


def _line(event: dict[str, Any]) -> str:
    kind = event.get("data", {}).get("kind", "")
    return f"{event['position']:>9}  {event['recorded_at'][:23]}  {event['type']:26} {event['stream']}  {kind}"
