"""Whatever the OpenAPI document allows, and whatever it does not: no request makes the service fail.

A bounded and repeatable run: every operation, a few requests that fit the document and a few that do not, the same ones each
time, sent by an owner of the organization who also owns the installation, so that nearly all of them get past the guard.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any

import httpx
import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from litestar import Litestar
from schemathesis import GenerationMode

from api.app import create_app
from commands.tokens import Pair
from eventstore.settings import Settings
from tests.api.house import House, hook, serving
from tests.api.signing_in import bearer, join, signed_in
from tests.api.test_proof import sealed

EXAMPLES = 2  # of each kind, for each operation
SEED = 20261125
TIMEOUT_S = 10.0
ENDLESS = ("/stream",)  # server-sent events: read in test_streams.py
ABSENT = b"no analytics worker answers"  # none runs beside this application: it says so, and when to come back


class Sent(msgspec.Struct, kw_only=True):
    """What came back."""

    operations: int = 0
    statuses: Counter[int] = msgspec.field(default_factory=Counter)
    failures: list[str] = []


@pytest.fixture
def app(settings: Settings, house: House) -> Litestar:
    return create_app(msgspec.structs.replace(settings, sign_ins_per_min=0))


async def known_things(http: httpx.AsyncClient, house: House, headers: dict[str, str]) -> dict[str, str]:
    """Things that exist, by the name of the parameter that stands for them in paths."""
    session_id = "11111111-1111-4111-8111-111111111111"
    stored = await http.post(
        f"{house.ours.base}/observability/events",
        headers=headers,
        json=[hook(session_id, prompt="hello"), hook(session_id, "SessionEnd")],
    )
    assert stored.status_code == 202, stored.text
    project = await http.post(f"{house.ours.base}/projects", headers=headers, json={"name": "App"})
    assert project.status_code == 201, project.text
    await house.project()
    member = await signed_in(house)
    await join(house, house.ours, member.user_id, "viewer")
    await sealed(house)
    (event,) = await house.store.find(house.ours.org_id, limit=1)
    return {
        "session_id": session_id,
        "llm_session_id": session_id,
        "project_id": "app",
        "user_id": str(member.user_id),
        "event_id": str(event.event_id),
        "role_id": "junior",
    }


def send_all(url: str, document: dict[str, Any], headers: dict[str, str], known: dict[str, str], fresh: Any) -> Sent:
    """Every operation, as the document describes it and as it does not."""
    sent = Sent()
    # We bring our own: schemathesis would try keys of its own, which are all wrong.
    document["components"].pop("securitySchemes")
    document.pop("security")
    schema = schemathesis.openapi.from_dict(document)
    with requests.Session() as session:
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path.endswith(ENDLESS):
                continue
            sent.operations += 1
            who = fresh() if operation.path.startswith("/api/v1/auth/") else headers
            for mode in GenerationMode:
                for place in ({}, known):
                    given_path = {
                        parameter.name: place[parameter.name]
                        for parameter in operation.path_parameters
                        if parameter.name in place
                    }
                    if place and not given_path:
                        continue
                    if any(parameter.name == "organization_id" for parameter in operation.path_parameters):
                        given_path["organization_id"] = "default"
                    _send(sent, session, url, operation, mode, who, given_path)
    return sent


def _is_absent(answer: Any) -> bool:
    return answer.status_code == 503 and "retry-after" in answer.headers and ABSENT in answer.content


def _send(
    sent: Sent,
    session: requests.Session,
    url: str,
    operation: Any,
    mode: GenerationMode,
    headers: dict[str, str],
    path: dict[str, str],
) -> None:
    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode, path_parameters=path or None))
    def one(case: Any) -> None:
        with contextlib.suppress(requests.exceptions.InvalidHeader, UnicodeError):  # no client could send that
            answer = case.call(
                base_url=url, session=session, headers={"X-Organization": "default", **headers}, timeout=TIMEOUT_S
            )
            sent.statuses[answer.status_code] += 1
            if answer.status_code >= 500 and not _is_absent(answer):
                sent.failures.append(f"{operation.label}: {answer.status_code} for {case.as_curl_command()}")

    try:
        one()
    except Unsatisfiable:  # where nothing can be wrong, there are no negative cases
        if mode is GenerationMode.POSITIVE:
            raise


async def test_no_request_makes_the_service_fail(app: Litestar, house: House, record_property: Any) -> None:
    chief = await signed_in(house, platform_role="crewkit_owner")
    await join(house, house.ours, chief.user_id, "owner")
    loop = asyncio.get_running_loop()

    def fresh() -> dict[str, str]:
        """Somebody who may lose their login or their account."""
        return bearer(asyncio.run_coroutine_threadsafe(somebody(), loop).result(TIMEOUT_S))

    async def somebody() -> Pair:
        pair = await signed_in(house)
        await house.project()
        return pair

    async with serving(app) as live, httpx.AsyncClient(base_url=live.url, timeout=TIMEOUT_S) as http:
        headers = bearer(chief)
        known = await known_things(http, house, headers)
        document = (await http.get("/docs/openapi.json")).json()
        sent = await asyncio.to_thread(send_all, live.url, document, headers, known, fresh)
    print(sent.operations, "operations", sum(sent.statuses.values()), "requests", dict(sorted(sent.statuses.items())))
    record_property("sent", f"{sent.operations} operations, {sum(sent.statuses.values())} requests")
    assert sent.failures == [], "\n".join(sent.failures)
    assert sent.operations > 100
    assert sum(count for status, count in sent.statuses.items() if status < 300) > 100, "many got through"
    assert sum(count for status, count in sent.statuses.items() if status in {400, 422}) > 100, "many were wrong"
