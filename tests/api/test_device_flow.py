"""The device flow of RFC 8628 over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import msgspec
import pytest

from domain.kernel import PLATFORM
from domain.signin.devices import INTERVAL_S
from eventstore.settings import Settings, public_url
from tests.api.house import House
from tests.api.signing_in import carrying, logged_in, registered

A = "/api/v1/auth"
ADA = "ada@example.com"
RACERS = 100


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, sign_ins_per_min=0)


@pytest.fixture
async def ada(http: Any, house: House) -> dict[str, str]:
    await registered(http, house, ADA)
    return carrying(await logged_in(http, ADA))


@pytest.fixture
def later(live: Any) -> Any:
    """Let seconds pass for the pace at which devices ask, without waiting for them."""
    now = [0.0]
    live.app.state.services.pace._clock = lambda: now[0]

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


async def started(http: Any, house: House) -> dict[str, Any]:
    answer = await http.post(f"{A}/device", json={"client_id": "laptop"})
    assert answer.status_code == 200
    await house.project()
    return dict(answer.json())


async def poll(http: Any, told: dict[str, Any]) -> tuple[int, str]:
    answer = await http.post(f"{A}/token", json={"device_code": told["device_code"]})
    return answer.status_code, answer.json().get("error", {}).get("code", "")


async def test_a_device_is_signed_in_as_who_approved_it(
    http: Any, house: House, ada: Any, later: Any, settings: Any
) -> None:
    told = await started(http, house)
    assert (told["interval"], told["expires_in"]) == (5, 600)
    assert told["verification_uri"] == f"{public_url(settings)}/device"
    assert re.fullmatch("[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", told["user_code"])
    assert await poll(http, told) == (400, "authorization_pending")
    typed = told["user_code"].lower().replace("-", " ")
    approved = await http.post(f"{A}/device/verify", headers=ada, json={"user_code": typed})
    assert (approved.status_code, approved.json()["status"], approved.json()["client"]) == (200, "approved", "laptop")
    later(INTERVAL_S)
    answer = await http.post(f"{A}/token", json={"device_code": told["device_code"]})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    await house.project()
    me = (await http.get(f"{A}/me", headers=carrying(answer.json()))).json()
    assert me["email"] == ADA
    later(INTERVAL_S)
    assert await poll(http, told) == (400, "expired_token"), "once"


async def test_asking_too_soon_makes_the_interval_longer(http: Any, house: House, later: Any) -> None:
    told = await started(http, house)
    assert await poll(http, told) == (400, "authorization_pending")
    later(INTERVAL_S - 1)
    assert await poll(http, told) == (400, "slow_down")
    later(INTERVAL_S)
    assert await poll(http, told) == (400, "slow_down"), "now 10 seconds are asked for"
    later(3 * INTERVAL_S)
    assert await poll(http, told) == (400, "authorization_pending")


async def test_a_refused_device_stays_out(http: Any, house: House, ada: Any, later: Any) -> None:
    told = await started(http, house)
    body = {"user_code": told["user_code"], "approve": False}
    assert (await http.post(f"{A}/device/verify", headers=ada, json=body)).json()["status"] == "denied"
    assert await poll(http, told) == (400, "access_denied")
    await house.project()
    changed = await http.post(f"{A}/device/verify", headers=ada, json=body | {"approve": True})
    assert changed.status_code == 404


async def test_codes_that_never_were_or_are_somebody_elses_do_not_work(http: Any, house: House, ada: Any) -> None:
    assert await poll(http, {"device_code": "x" * 43}) == (400, "expired_token")
    assert await poll(http, {"device_code": "x" * 300}) == (400, "expired_token")
    assert (await http.post(f"{A}/token", json={})).status_code == 400
    unknown = await http.post(f"{A}/device/verify", headers=ada, json={"user_code": "BBBB-BBBB"})
    assert unknown.status_code == 404
    nobody = await http.post(f"{A}/device/verify", json={"user_code": "BBBB-BBBB"})
    assert nobody.status_code == 401
    with_key = await http.post(f"{A}/device/verify", headers=house.ours.headers(), json={"user_code": "BBBB-BBBB"})
    assert with_key.status_code == 403


async def test_oauth_clients_send_forms_and_use_the_short_paths(http: Any, house: House, ada: Any) -> None:
    told = (await http.post("/auth/device", data={"client_id": "cli"})).json()
    await house.project()
    await http.post(f"{A}/device/verify", headers=ada, json={"user_code": told["user_code"]})
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    form = {"grant_type": grant, "device_code": told["device_code"], "client_id": "cli"}
    pair = await http.post("/auth/token", data=form)
    assert pair.status_code == 200, pair.text
    refresh = {"grant_type": "refresh_token", "refresh_token": pair.json()["refresh_token"]}
    assert (await http.post("/auth/token", data=refresh)).status_code == 200
    assert (await http.post("/auth/device")).status_code == 200, "nothing needs to be said"


async def test_of_a_hundred_clients_with_one_device_code_one_wins(http: Any, live: Any, house: House, ada: Any) -> None:
    told = await started(http, house)
    await http.post(f"{A}/device/verify", headers=ada, json={"user_code": told["user_code"]})
    live.app.state.services.pace.ask = lambda _: None  # the claim is what races here, not the pace
    tried = [http.post(f"{A}/token", json={"device_code": told["device_code"]}) for _ in range(RACERS)]
    answers = await asyncio.gather(*tried)
    codes = Counter(answer.json().get("error", {}).get("code", "won") for answer in answers)
    assert codes["won"] == 1
    assert codes["won"] + codes["expired_token"] == RACERS
    assert len(await house.store.find(PLATFORM, type="device_authorization.claimed.v1")) == 1
