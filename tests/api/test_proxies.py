"""Whose address counts where a proxy stands in between: `X-Forwarded-For` is believed of proxies that are named, and of nobody else."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from api.app import create_app
from eventstore.settings import Settings
from tests.api.house import House, serving
from workers.serve import trusting

LOGIN = "/api/v1/auth/login"
WISH = {"email": "nobody@example.com", "password": "wrong wrong wrong"}


async def statuses(settings: Settings, senders: list[str]) -> list[int]:
    """What tries are answered that say to come from `senders`, one try a minute and address allowed."""
    async with (
        serving(create_app(settings), **trusting(settings)) as live,
        httpx.AsyncClient(base_url=live.url) as http,
    ):
        answers = [await http.post(LOGIN, json=WISH, headers={"X-Forwarded-For": sender}) for sender in senders]
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize(
    ("trusted", "senders", "expected"),
    [
        (None, ["192.0.2.1", "192.0.2.2"], [401, 429]),
        ("198.51.100.0/24", ["192.0.2.1", "192.0.2.2"], [401, 429]),
        ("127.0.0.1", ["192.0.2.1", "192.0.2.2", "192.0.2.1"], [401, 401, 429]),
        # What the caller put in front of the proxy's word does not help.
        ("127.0.0.0/8", ["203.0.113.1, 192.0.2.1", "203.0.113.2, 192.0.2.1"], [401, 429]),
    ],
)
async def test_tries_are_counted_per_caller_behind_proxies_that_are_named(
    settings: Settings, house: House, trusted: str | None, senders: list[str], expected: list[int]
) -> None:
    assert house.ours.slug
    strict: Any = msgspec.structs.replace(settings, sign_ins_per_min=1, trusted_proxies=trusted)
    assert await statuses(strict, senders) == expected
