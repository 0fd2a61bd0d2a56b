"""Facts that are awkward to count: told by one channel or two, late, again, over midnights and changes of clocks, with models that
nobody knows the price of, costs that differ from our prices, calls without ids, forks, subagents, and sessions without an end.

Made from a seed, in the shape in which the channels store what Claude Code tells.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from domain.sessions.events import ChannelFact, Context, HookRecorded, TelemetryRecorded, TranscriptRecorded
from tests.projections.session_facts import Keyed

PEOPLE = [UUID(int=0xA0 + n) for n in range(4)]
MODELS = ["claude-opus-5-5", "claude-haiku-4-5", "nobody-knows-1"]
# Around changes of clocks: Berlin and New York (autumn), Lord Howe (by half an hour), and an ordinary midnight in Kolkata.
MOMENTS = [
    datetime(2026, 10, 24, 22, 10, tzinfo=UTC),
    datetime(2026, 11, 1, 4, 40, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 5, tzinfo=UTC),
    datetime(2026, 4, 4, 14, 20, tzinfo=UTC),
    datetime(2026, 7, 9, 18, 25, tzinfo=UTC),
]
PLACES = [
    Context(repo="acme/shop", branch="main", project="shop"),
    Context(repo="acme/shop", branch="=cmd|' /C calc'!A0", project="shop"),
    Context(repo="acme/ümläut", branch="fix/midnight", project="café"),
    Context(),
]
SKILLS = [None, None, "pdf", "review"]


class _Writer:
    """The facts of one conversation."""

    def __init__(self, rng: random.Random, number: int) -> None:
        self.rng = rng
        self.name = f"{number:08x}-0000-4000-8000-00000000a0a0"
        self.person = rng.choice(PEOPLE)
        self.place = rng.choice(PLACES)
        self.at = rng.choice(MOMENTS) + timedelta(minutes=rng.randrange(90))
        self.facts: list[Keyed] = []
        self.count = 0

    def tell(self, kind: type[ChannelFact], name: str, attrs: dict[str, Any], **more: Any) -> None:
        self.count += 1
        fact = kind(
            agent="claude",
            llm_session_id=self.name,
            kind=name,
            occurred_at=self.at,
            person_id=self.person,
            attrs=attrs,
            context=self.place,
            **more,
        )
        self.facts.append((f"{kind.__name__}-{self.count}", fact))

    def hook(self, name: str, **attrs: Any) -> None:
        self.tell(HookRecorded, name, attrs)

    def call(self, key: str, *, copied_from: str | None = None) -> None:
        """One model call, by telemetry, by transcript, or by both."""
        rng = self.rng
        agent = "helper-1" if rng.random() < 0.2 else None
        model = rng.choices(MODELS, (6, 3, 1))[0]
        skill = rng.choice(SKILLS)
        fresh, out, read, written = (
            rng.randrange(900),
            rng.randrange(1, 2_000),
            rng.randrange(90_000),
            rng.randrange(5_000),
        )
        by_telemetry = copied_from is None and rng.random() < 0.75
        named = rng.random() < 0.9
        if by_telemetry:
            attrs: dict[str, Any] = {
                "event.sequence": str(self.count),
                "model": model,
                "input_tokens": fresh,
                "output_tokens": out,
                "cache_read_tokens": read,
                "cache_creation_tokens": written,
                "duration_ms": rng.randrange(10_000),
                "query_source": "agent:custom" if agent else "sdk",
            }
            if rng.random() < 0.85:  # often not what our table says
                attrs["cost_usd"] = rng.randrange(10**6) / 10**6 / 7
            attrs |= {"request_id": key} if named else {}
            attrs |= {"agent_id": agent} if agent else {}
            attrs |= {"skill.name": skill} if skill else {}
            self.tell(TelemetryRecorded, "claude_code.api_request", attrs, signal="log")
        if named and (not by_telemetry or rng.random() < 0.6):
            usage = {
                "input_tokens": fresh,
                "output_tokens": out if rng.random() < 0.8 else 1,  # a line that was written while the answer streamed
                "cache_read_input_tokens": read,
                "cache_creation_input_tokens": written,
            }
            message = {"id": f"msg_{key}", "model": model, "role": "assistant", "usage": usage}
            line: dict[str, Any] = {"uuid": f"{self.name}-{self.count}", "type": "assistant", "requestId": key}
            line |= {"message": message, "sessionId": self.name}
            line |= {"attributionSkill": skill} if skill else {}
            line |= {"isSidechain": True, "derived": {"agent_id": agent}} if agent else {}
            line |= {"forkedFrom": {"sessionId": copied_from, "messageUuid": "m"}} if copied_from else {}
            self.tell(TranscriptRecorded, "assistant", line)

    def tool(self, key: str, number: int) -> None:
        """A tool call that model call `key` asked for."""
        rng = self.rng
        server = "files" if rng.random() < 0.3 else None
        attrs: dict[str, Any] = {
            "tool_use_id": f"toolu_{key}_{number}",
            "tool_name": f"mcp__{server}__read" if server else rng.choice(["Bash", "Edit", "Read"]),
            "success": "true" if rng.random() < 0.8 else "false",
            "duration_ms": rng.randrange(5_000),
            "request_id": key,
        }
        attrs |= {"mcp_server.name": server} if server else {}
        self.tell(TelemetryRecorded, "claude_code.tool_result", attrs, signal="log")


def _conversation(
    rng: random.Random, number: int, earlier: list[tuple[str, list[str]]]
) -> tuple[list[Keyed], list[str]]:
    told = _Writer(rng, number)
    told.hook("SessionStart", source="startup")
    told.hook("UserPromptSubmit", prompt_id=f"p{number}")
    keys = [f"req_{number:x}_{n:x}" for n in range(rng.randrange(0, 12))]
    if earlier and rng.random() < 0.25:  # a fork copies lines of its parent, which count there
        parent, copied = rng.choice(earlier)
        for key in copied[:4]:
            told.call(key, copied_from=parent)
    for key in keys:
        told.at += timedelta(seconds=rng.choice([3, 40, 700, 3_000]))
        told.call(key)
        for tool in range(rng.randrange(3)):
            told.at += timedelta(seconds=rng.choice([1, 900]))
            told.tool(key, tool)
    told.at += timedelta(seconds=5)
    if rng.random() < 0.8:
        told.hook("Stop", prompt_id=f"p{number}")
    if rng.random() < 0.7:  # the others stay open
        told.hook("SessionEnd", reason="other")
        if rng.random() < 0.3:
            told.at += timedelta(days=rng.choice([1, 30]))
            told.hook("SessionStart", source="resume")
            told.call(f"req_{number:x}_again")
            told.hook("SessionEnd", reason="other")
    return told.facts, keys


def awkward_facts(seed: int, conversations: int = 40) -> list[Keyed]:
    """The facts, in the order in which they happened within each conversation."""
    rng = random.Random(seed)
    found: list[Keyed] = []
    earlier: list[tuple[str, list[str]]] = []
    for number in range(conversations):
        facts, keys = _conversation(rng, number + seed * 1_000, earlier)
        found += facts
        earlier.append((facts[0][1].llm_session_id, keys))
    return found


def shuffled(facts: list[Keyed], seed: int) -> list[Keyed]:
    """The same facts out of order, a third of them twice."""
    rng = random.Random(seed)
    told = [*facts, *rng.sample(facts, len(facts) // 3)]
    rng.shuffle(told)
    return told
