"""Everybody tries every route: the table in api/permissions.py is the whole truth about who may call what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from litestar import Router, get
from litestar.testing import AsyncTestClient

import api.auth
from api import hot, permissions
from api.app import create_app
from api.permissions import PUBLIC, READ, PermissionTableError
from eventstore.settings import Settings
from tests.api.house import House
from tests.api.walk import FROM_MOST_TO_LEAST, Walk, everybody, walk, watch

EVENTS = ("GET", "/api/v1/{organization_id}/events")
KEYS = ("POST", "/api/v1/{organization_id}/api_keys")
INGEST = ("POST", "/api/v1/{organization_id}/observability/events")
SOCKET = ("WS", "/ws/{session_id}")
SAMPLE = (EVENTS, KEYS, INGEST, SOCKET)


@pytest.fixture
async def walking(settings: Settings, house: House, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Walk]]:
    """Build an application as it is now and walk through it, comparing with the table as it was at the start."""
    told = dict(permissions.TABLE)
    watch(monkeypatch)
    people = await everybody(house)

    async def go(routes: Any = SAMPLE, *, register: Any = (), also: Any = ()) -> Walk:
        app = create_app(msgspec.structs.replace(settings, sign_ins_per_min=0))
        for route in register:
            app.register(route)
        async with AsyncTestClient(app, raise_server_exceptions=False) as client:
            return await walk(client, app, house, people, told | dict(also), routes)

    return go


async def test_every_route_lets_in_exactly_whom_the_table_names(walking: Any, record_property: Any) -> None:
    done = await walking(None)
    print(done)
    record_property("walk", str(done))
    assert done.surprises == []
    assert done.tried == done.routes * done.identities
    assert done.routes == len(permissions.TABLE)
    assert done.identities >= 25


def _nothing(*_: Any, **__: Any) -> None:
    """A check that somebody forgot."""


async def _admit_all(_: Any) -> None:
    """A way in without the guard."""


@pytest.mark.parametrize(
    ("name", "hole", "seen"),
    [
        ("_check_scope", _nothing, "a key of scope ingest: GET /api/v1/{organization_id}/events: 418, not 403"),
        ("_check_tenant", _nothing, "a key of elsewhere: GET /api/v1/{organization_id}/events: 418, not 404"),
        ("_check_user", _nothing, "a user of nowhere: POST /api/v1/{organization_id}/api_keys: 418, not 404"),
        (
            "at_least",
            lambda held, needed, ranks: held in ranks,
            "a member: viewer: POST /api/v1/{organization_id}/api_keys: 418, not 403",
        ),
    ],
)
async def test_a_check_that_is_missing_from_the_guard_is_found(
    walking: Any, monkeypatch: Any, name: str, hole: Any, seen: str
) -> None:
    monkeypatch.setattr(api.auth, name, hole)
    assert seen in (await walking()).surprises


async def test_an_entry_that_is_too_generous_is_found(walking: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(permissions.TABLE, EVENTS, PUBLIC)
    monkeypatch.setitem(permissions.TABLE, KEYS, READ)
    found = (await walking()).surprises
    assert "nobody: GET /api/v1/{organization_id}/events: 418, not 401" in found
    assert "a disabled owner: GET /api/v1/{organization_id}/events: 418, not 401" in found
    assert "a key of scope read: POST /api/v1/{organization_id}/api_keys: 418, not 403" in found
    assert "a member: viewer: POST /api/v1/{organization_id}/api_keys: 418, not 403" in found


async def test_an_entry_that_is_too_strict_is_found(walking: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(permissions.TABLE, EVENTS, permissions.OWNER)
    found = (await walking()).surprises
    shut_out = {f"a member: {one}: GET {EVENTS[1]}: 403, not 418" for one in FROM_MOST_TO_LEAST[1:]}
    assert shut_out <= set(found)


async def test_a_fast_lane_past_the_guard_is_found(walking: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(hot, "admit", _admit_all)
    found = (await walking()).surprises
    assert any(line.startswith(f"nobody: POST {INGEST[1]}: ") for line in found)
    assert any(line.startswith(f"a key of elsewhere: POST {INGEST[1]}: ") for line in found)


async def test_a_planted_route_is_found(walking: Any, monkeypatch: Any) -> None:
    """One that the running table knows as public, and the table of the walk does not know at all."""

    @get("/planted", sync_to_thread=False)
    def planted() -> str:
        return "anybody may read this"

    monkeypatch.setitem(permissions.TABLE, ("GET", "/planted"), PUBLIC)
    done = await walking([("GET", "/planted")], register=[Router("/", route_handlers=[planted])])
    assert "GET /planted has no entry" in done.surprises
    assert "nobody: GET /planted: 418, not 401" in done.surprises


async def test_an_entry_without_a_route_is_found(walking: Any) -> None:
    assert (await walking([], also=[(("GET", "/gone"), PUBLIC)])).surprises == ["GET /gone is not served"]


async def test_an_application_with_a_route_that_nobody_judged_does_not_start(settings: Any, monkeypatch: Any) -> None:
    monkeypatch.delitem(permissions.TABLE, EVENTS)
    with pytest.raises(PermissionTableError, match=r"GET /api/v1/\{organization_id\}/events"):
        create_app(settings)
