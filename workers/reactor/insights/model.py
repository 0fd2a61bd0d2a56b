"""One question to the model, through the vendor's own client; what went wrong is told apart into later and never."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import msgspec

from domain.sessions.observations import Tokens
from eventstore.settings import Settings
from schemas.insights import Written
from workers.reactor.base import GiveUpError, RetryError
from workers.reactor.insights.question import SYSTEM, TOOL, tool

ANSWER_MAX_S = 90.0
WAIT_STATUSES = frozenset({408, 409, 425, 429})  # and everything from 500 on, overload (529) among it


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model wrote, which model that was, and the tokens it took."""

    written: Written
    model: str
    tokens: Tokens
    service_tier: str | None


async def ask(settings: Settings, message: str) -> Answer:
    """Ask once.

    Raises:
        RetryError: the other side is away, busy or limits us; it may have said for how long.
        GiveUpError: it refused us, or its answer is not what was asked for.
    """
    sdk = await _sdk()
    client = sdk.AsyncAnthropic(
        api_key=settings.anthropic_api_key,
        base_url=settings.anthropic_base_url,
        timeout=ANSWER_MAX_S,
        max_retries=0,  # retries are the reactor's: they outlive this process
    )
    try:
        async with client:
            answer = await client.messages.create(
                model=settings.insights_model,
                max_tokens=settings.insights_tokens_max,
                system=SYSTEM,
                messages=[{"role": "user", "content": message}],
                tools=[tool()],
                tool_choice={"type": "tool", "name": TOOL, "disable_parallel_tool_use": True},
            )
    except sdk.APIStatusError as error:
        text = f"the model API answered {error.status_code} {_kind(error.body)}".strip()
        if error.status_code in WAIT_STATUSES or error.status_code >= 500:
            raise RetryError(text, _retry_after_s(error.response.headers)) from error
        raise GiveUpError(text) from error
    except sdk.APIConnectionError as error:  # a timeout is one too
        raise RetryError(f"the model API cannot be reached ({type(error).__name__})") from error
    except sdk.APIError as error:  # the body is not what the protocol says
        raise GiveUpError(f"the model API gave an answer that cannot be read ({type(error).__name__})") from error
    return _read(answer)


async def _sdk() -> Any:
    """Loaded when first needed, in a thread: it takes a second and tens of megabytes."""
    try:
        return await asyncio.to_thread(importlib.import_module, "anthropic")
    except ModuleNotFoundError as error:
        raise GiveUpError("the model's client is not installed: pip install 'crewkit[insights]'") from error


def _read(answer: Any) -> Answer:
    if answer.stop_reason == "max_tokens":
        raise GiveUpError("the answer was cut off; raise CREWKIT_INSIGHTS_TOKENS_MAX")
    calls = [block for block in answer.content or [] if block.type == "tool_use" and block.name == TOOL]
    if len(calls) != 1:
        raise GiveUpError(f"the answer is malformed: {len(calls)} calls of the tool ({answer.stop_reason})")
    try:
        written = msgspec.convert(calls[0].input, Written)
    except msgspec.ValidationError as error:
        raise GiveUpError(f"the answer is malformed: {error}") from error
    usage = answer.usage
    cached = usage.cache_creation
    hour = (cached.ephemeral_1h_input_tokens or 0) if cached is not None else 0
    return Answer(
        written=written,
        model=answer.model,
        tokens=Tokens(
            input=usage.input_tokens,
            output=usage.output_tokens,
            cache_read=usage.cache_read_input_tokens or 0,
            cache_write_5m=max(0, (usage.cache_creation_input_tokens or 0) - hour),
            cache_write_1h=hour,
        ),
        service_tier=usage.service_tier,
    )


def _kind(body: Any) -> str:
    """The vendor's word for the error; the message may quote us, so it is not kept."""
    error = body.get("error") if isinstance(body, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) and kind.replace("_", "").isalnum() and len(kind) <= 60 else ""


def _retry_after_s(headers: Any) -> float | None:
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if seconds >= 0:
            return seconds
    return None
