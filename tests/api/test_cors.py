"""Pages of other sites: they read answers where their origin is named, with a token or key of their own, and nowhere else."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from api.app import create_app
from api.cors import cors_of
from eventstore.settings import Settings
from tests.api.house import House, body, hook, serving

SITE = "https://dashboards.example.com"
ALLOWED, CREDENTIALS = "access-control-allow-origin", "access-control-allow-credentials"


async def asked(settings: Settings, house: House, origins: str | None, origin: str) -> dict[str, httpx.Response]:
    """A preflight, a read, an ingestion and a refusal, as a page of `origin` makes them."""
    changed: Any = msgspec.structs.replace(settings, cors_origins=origins)
    mine = {**house.ours.headers(), "Origin": origin}
    ahead = {"Origin": origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-api-key"}
    async with (
        serving(create_app(changed)) as live,
        httpx.AsyncClient(base_url=live.url) as http,
    ):
        return {
            "preflight": await http.options(f"{house.ours.base}/sessions", headers=ahead),
            "read": await http.get(f"{house.ours.base}/sessions", headers=mine),
            "ingestion": await http.post(
                f"{house.ours.base}/observability/events", headers=mine, content=body([hook("s", prompt="p")])
            ),
            "refusal": await http.get(f"{house.ours.base}/sessions", headers={"Origin": origin}),
        }


@pytest.mark.parametrize(
    ("origins", "origin", "told"),
    [
        (None, SITE, None),
        (f"https://other.example.com, {SITE}", SITE, SITE),
        (SITE, "https://dashboards.example.com.evil.example", None),
        (SITE, "http://dashboards.example.com", None),
    ],
)
async def test_answers_are_shown_to_pages_of_named_sites_only(
    settings: Settings, house: House, origins: str | None, origin: str, told: str | None
) -> None:
    answers = await asked(settings, house, origins, origin)
    assert [answers[name].status_code for name in ("read", "ingestion", "refusal")] == [200, 202, 401]
    for name, answer in answers.items():
        assert answer.headers.get(ALLOWED) == told, name
        assert CREDENTIALS not in answer.headers
    if told is not None:
        assert answers["preflight"].status_code == 204
        shown = answers["ingestion"].headers["access-control-expose-headers"].lower()
        assert "crewkit-position" in shown


@pytest.mark.parametrize("odd", ["dashboards.example.com", "https://a.example.com/path", "https://*.example.com"])
def test_what_is_no_origin_is_refused_by_name(odd: str) -> None:
    with pytest.raises(ValueError, match="CREWKIT_CORS_ORIGINS: expected origins"):
        cors_of(f"{SITE},{odd}")


def test_nobody_is_named_by_nothing() -> None:
    assert cors_of(None) is None
    assert cors_of(" , ") is None
