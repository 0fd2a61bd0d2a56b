"""Sessions and model calls of realistic shape, as batches the analytics worker takes in: deterministic by seed, streamed.

A session is made from the seed and its own number alone, so any part can be made again.  Shapes: work on weekdays in office
hours of four zones, session lengths with a long tail (half of all calls are in a tenth of the sessions), a few models of which
two do most of the work, caches that mostly hit, subagents in a fifth of the sessions, calls without telemetry and without a price.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from workers.analytics.refresh import PARTS, SESSIONS_PER_PAGE

ORG = UUID("00000000-0000-4000-8000-00000000000b")
PEOPLE = 250
PROJECTS = 40
DAYS = 120
END = datetime(2026, 11, 1, tzinfo=UTC)
MODELS = ("claude-opus-5-5", "claude-sonnet-5", "claude-haiku-5-5", "gpt-5.5", "house-model-1")
WEIGHTS = (45, 35, 12, 6, 2)
UNPRICED = "house-model-1"
# Pico-USD per token: input, output, read, written.
RATES = {
    "claude-opus-5-5": (4_000_000, 20_000_000, 200_000, 5_000_000),
    "claude-sonnet-5": (2_000_000, 10_000_000, 200_000, 2_500_000),
    "claude-haiku-5-5": (100_000, 500_000, 10_000, 125_000),
    "gpt-5.5": (1_250_000, 10_000_000, 125_000, 0),
}
_SLOT = 900  # seconds


class Sums(msgspec.Struct):
    """Truth to compare with."""

    sessions: int = 0
    calls: int = 0
    cost_pico_usd: int = 0
    output_tokens: int = 0


def sizes(seed: int, sessions: int, calls: int) -> list[int]:
    """How many calls each session has; they sum to `calls`, and each has at least one."""
    rng = random.Random(seed)
    raw = [rng.lognormvariate(0, 1.3) for _ in range(sessions)]
    scale = (calls - sessions) / sum(raw)
    found = [1 + int(value * scale) for value in raw]
    for n in range(calls - sum(found)):
        found[n % sessions] += 1
    return found


def pages(
    seed: int,
    sessions: int,
    calls: int,
    folder: Path,
    *,
    per_page: int = SESSIONS_PER_PAGE,
    first: int = 0,
    days: int = DAYS,
) -> Iterator[tuple[Path, list[str]]]:
    """Folders with the files of one batch each, and the conversations in it; the reader removes them."""
    sums = Sums()
    for start in range(0, sessions, per_page):
        counts = sizes_cached(seed, sessions, calls)[start : start + per_page]
        place = folder / f"page-{first + start:07d}"
        place.mkdir(parents=True)
        yield place, write_page(seed, first + start, counts, place, sums, days)


_SIZES: dict[tuple[int, int, int], list[int]] = {}


def sizes_cached(seed: int, sessions: int, calls: int) -> list[int]:
    """`sizes`, made once."""
    key = (seed, sessions, calls)
    if key not in _SIZES:
        _SIZES.clear()
        _SIZES[key] = sizes(*key)
    return _SIZES[key]


def write_page(seed: int, start: int, counts: Sequence[int], place: Path, sums: Sums, days: int) -> list[str]:
    """Write sessions numbered from `start` on; their ids."""
    idents: list[str] = []
    encode = msgspec.json.encode
    with (
        contextlib.ExitStack() as stack,
        (place / "usage").open("w") as usage,
        (place / "sessions").open("wb") as sessions,
        (place / "llm_sessions").open("wb") as llms,
    ):
        calls = [stack.enter_context((place / f"calls.{part}").open("w")) for part in range(PARTS)]
        for n, count in enumerate(counts):
            ident = f"{seed:04x}-{start + n:08x}-4000-8000-000000000000"
            idents.append(ident)
            row, lines, slots = session(seed, start + n, ident, count, sums, days)
            calls[n % PARTS].write(lines)
            usage.write(slots)
            llms.write(
                encode(
                    {
                        **row,
                        "llm_session_id": ident,
                        "agent_version": "2.1.329",
                        "clock_skew_ms": 0,
                        "tools_stand_in": False,
                    }
                )
                + b"\n"
            )
            sessions.write(encode({**row, "kind": "cli", "coached": start % 5 == 0}) + b"\n")
    return idents


def _begin(rng: random.Random, days: int) -> datetime:
    day = END - timedelta(days=rng.randrange(days))
    while day.weekday() > 4 and rng.random() < 0.9:
        day -= timedelta(days=1)
    zone = (-7, -4, 1, 5.5)[rng.randrange(4)]
    hour = min(23.0, max(0.0, rng.gauss(13.5, 2.8)))
    return day.replace(hour=0) + timedelta(hours=hour - zone)


def session(seed: int, number: int, ident: str, count: int, sums: Sums, days: int) -> tuple[dict[str, Any], str, str]:
    """One session: its row, the lines of its calls, and of its usage."""
    rng = random.Random(seed * 1_000_003 + number)
    person = UUID(int=rng.randrange(PEOPLE) + 1)
    project = f"project-{min(rng.randrange(PROJECTS), rng.randrange(PROJECTS))}"
    main = rng.choices(MODELS, WEIGHTS)[0]
    telemetry = rng.random() < 0.9
    helper = f"agent-{number:x}" if rng.random() < 0.2 else ""
    at = _begin(rng, days).timestamp()
    start_s = at
    lines: list[str] = []
    slots: dict[tuple[int, str, str], list[int]] = {}
    context, totals, cost, unpriced = 12_000, [0, 0, 0, 0], 0, 0
    randrange, rand = rng.randrange, rng.random
    for n in range(count):
        at += 4 + randrange(60) if rand() < 0.97 else 600 + randrange(3_000)
        agent = helper if helper and rand() < 0.25 else ""
        model = main if rand() < 0.93 else MODELS[2]
        fresh, out = 3 + randrange(400), 20 + randrange(1_600)
        cold = rand() < 0.04
        read, written = (0, context) if cold else (context, 200 + randrange(3_000))
        context = min(180_000, context + written // 8 + out)
        rates = RATES.get(model)
        priced = None if rates is None else fresh * rates[0] + out * rates[1] + read * rates[2] + written * rates[3]
        reported = priced if telemetry and priced is not None else None
        key = f"req_{number:x}_{n:x}"
        moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        shown, told = "" if priced is None else priced, "" if reported is None else reported
        version, reason = ("litellm-1.109.1", "") if priced is not None else ("", "unknown_model")
        flag = "t" if telemetry else "f"
        lines.append(
            f"{ORG},{key},{ident},{agent},p{n >> 3:x},{key},msg_{number:x}_{n:x},{model},{moment},{fresh},{out},{read},{written},"
            f"0,0,0,{told},{shown},{version},{reason},t,{flag},t,f,{900 + out * 14},{300 + randrange(900)},main,,,,\n"
        )
        totals[0] += fresh
        totals[1] += out
        totals[2] += read
        totals[3] += written
        cost += priced or 0
        unpriced += priced is None
        sums_of = slots.setdefault((int(at) // _SLOT, agent, model), [0] * 12)
        for place, value in enumerate(
            (
                1,
                fresh,
                out,
                read,
                written,
                900 + out * 14,
                reported or 0,
                priced or 0,
                reported is None,
                priced is None,
                cold,
                written if cold else 0,
            )
        ):
            sums_of[place] += value
    sums.sessions += 1
    sums.calls += count
    sums.cost_pico_usd += cost
    sums.output_tokens += totals[1]
    micros = round(cost / 1_000_000)
    source = "telemetry" if telemetry and not unpriced else "priced" if not unpriced else "transcript"
    row = _row(rng, ident, person, project, main, (start_s, at), count, totals)
    row |= {
        "cost_usd_micros": micros,
        "cost_source": source,
        "cost_complete": not unpriced,
        "telemetry_usd_micros": micros if telemetry else None,
        "priced_usd_micros": micros,
        "unpriced_calls": unpriced,
    }
    return (
        row,
        "".join(lines),
        "".join(_usage(ident, slot, agent, model, told) for (slot, agent, model), told in slots.items()),
    )


def _usage(ident: str, slot: int, agent: str, model: str, told: list[int]) -> str:
    moment = datetime.fromtimestamp(slot * _SLOT, UTC).strftime("%Y-%m-%d %H:%M:%S")
    calls, fresh, out, read, written, ms, reported, priced, unreported, unpriced, cold, lost = map(int, told)
    return (
        f"{ORG},{ident},{moment},{agent},{model},{calls},{fresh},{out},{read},{written},0,0,0,{ms},{reported},{priced},"
        f"{reported or priced},{unreported},{unpriced},{unpriced},{reported},{reported},litellm-1.109.1,{cold},{lost},0,0,0,0,\n"
    )


def _row(
    rng: random.Random,
    ident: str,
    person: UUID,
    project: str,
    main: str,
    span: tuple[float, float],
    count: int,
    totals: list[int],
) -> dict[str, Any]:
    start, end = (datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(sep=" ") for at in span)
    draw = rng.random()
    outcome = "completed" if draw < 0.78 else "failed" if draw < 0.86 else "abandoned" if draw < 0.96 else "unknown"
    return {
        "org_id": str(ORG),
        "session_id": ident,
        "agent": "codex" if main.startswith("gpt") else "claude",
        "model": main,
        "status": "ended",
        "status_rule": "session_end",
        "outcome": outcome,
        "outcome_rule": "session_end",
        "person_id": str(person),
        "repo": f"acme/{project}",
        "branch": f"work-{rng.randrange(2_000)}",
        "project": project,
        "started_at": start,
        "ended_at": end,
        "last_activity_at": end,
        "duration_ms": int((span[1] - span[0]) * 1000),
        "llm_sessions": 1,
        "prompts": 1 + count // 8,
        "turns": 1 + count // 8,
        "failed_turns": count // 300,
        "tool_calls": count,
        "tool_failures": count // 20,
        "tool_denials": count // 200,
        "model_calls": count,
        "model_failures": count // 150,
        "permission_requests": count // 60,
        "compactions": count // 400,
        "model_switches": 0,
        "subagents": 1,
        "runs": 1,
        "commits": rng.randrange(4),
        "pull_requests": int(rng.random() < 0.3),
        "active_ms": count * 20_000,
        "input_tokens": totals[0],
        "output_tokens": totals[1],
        "cache_read_tokens": totals[2],
        "cache_write_5m_tokens": totals[3],
        "cache_write_1h_tokens": 0,
        "reasoning_tokens": 0,
        "cost_verdict": "agrees",
        "transcript_usd_micros": None,
        "metric_usd_micros": None,
        "price_versions": "litellm-1.109.1",
        "lines_added": rng.randrange(300),
        "lines_removed": rng.randrange(120),
        "lines_source": "tools",
    }
