"""What holds for every route: error format, request ids, limits, health, metrics, documentation."""

from __future__ import annotations

import gzip
import re
import zlib
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from litestar import Router, get
from litestar.testing import AsyncTestClient
from structlog.testing import capture_logs

from api import permissions
from api.app import create_app
from api.bodies import GZIP_WBITS, inflate
from api.errors import ApiError
from api.limits import BUCKETS_MAX, RateLimiter
from eventstore.port import StoreUnavailableError
from eventstore.settings import Settings
from tests.api.house import House, body, hook, serving


def shape(answer: Any) -> tuple[int, str]:
    """Status and code of an error answer, after checking that it has the one shape."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "details", "request_id"}
    assert answer.json()["message"] == error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, error["code"]


async def test_health_names_each_component(client: Any) -> None:
    answer = await client.get("/health")
    assert answer.status_code == 200
    parts = answer.json()["components"]
    assert parts["database"]["status"] == "ok"
    assert parts["nats"]["status"] == "degraded"
    assert parts["relay"]["details"]["lag"] > 0
    assert parts["projection.directory"]["details"] == {
        "lag": 0,
        "position": parts["database"]["details"]["head"],
        "state": "running",
    }
    assert (await client.get("/api/health")).json() == answer.json()


async def test_alive_and_ready_are_two_questions(client: Any) -> None:
    assert (await client.get("/health/live")).json() == {"status": "ok"}
    assert (await client.get("/health/ready")).status_code == 200


async def test_a_lost_database_is_not_ready_but_alive(client: Any, app: Any) -> None:
    class Away:
        def acquire(self, **_: Any) -> Any:
            raise ConnectionRefusedError

    app.state.services.pool = Away()
    assert (await client.get("/health/live")).status_code == 200
    answer = await client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["components"]["database"]["status"] == "down"
    assert (await client.get("/health/ready")).status_code == 503


async def test_metrics_tell_requests_store_and_projections(client: Any, house: House) -> None:
    await client.post(f"{house.ours.base}/observability/events", headers=house.ours.headers(), content=body(hook("s1")))
    headers = house.ours.headers("admin")
    text = (await client.get("/metrics", headers=headers)).text
    assert f"crewkit_store_head {float(await house.store.head())}" in text
    assert 'crewkit_projection_state{generation="1",projection="directory",state="running"} 1.0' in text
    assert 'crewkit_projection_lag_events{generation="1",projection="directory"} 1.0' in text
    assert "crewkit_relay_lag_events" in text
    assert "crewkit_append_seconds_count 1.0" in text
    assert "crewkit_append_queue 0.0" in text
    route = "/api/v1/{organization_id}/observability/events"
    assert f'crewkit_http_requests_total{{method="POST",route="{route}",status="202"}} 1.0' in text


async def test_metrics_need_no_key_from_this_machine_but_from_elsewhere_and_through_a_proxy(http: Any) -> None:
    assert (await http.get("/metrics")).status_code == 200
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        assert (await http.get("/metrics", headers={header: "203.0.113.9"})).status_code == 401


async def test_the_caller_request_id_comes_back_unless_it_is_odd(client: Any) -> None:
    assert (await client.get("/health/live", headers={"X-Request-Id": "abc-1"})).headers["x-request-id"] == "abc-1"
    for odd in ("x" * 65, "a b", 'a"b'):
        made = (await client.get("/health/live", headers={"X-Request-Id": odd})).headers["x-request-id"]
        assert len(made) == 32


async def test_unknown_paths_and_methods_answer_in_the_same_shape(client: Any, house: House) -> None:
    assert shape(await client.get("/no/such/path")) == (404, "not_found")
    assert shape(await client.put("/health")) == (405, "method_not_allowed")
    answer = await client.post("/v1/logs", headers={**house.ours.headers(), "Content-Type": "text/csv"}, content=b"a,b")
    assert shape_otlp(answer) == (415, "unsupported_media_type")


def shape_otlp(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize(
    ("sent", "field", "expected"),
    [
        (b"{", "$", "JSON"),
        (b"7", "$", "object"),
        (b'{"events": 3}', "$.events", "array"),
        (b'{"events": [{"payload": {}, "agent": 4}]}', "$.events[0].agent", "str"),
        (b'{"events": [{"payload": {}}, {"payload": []}]}', "$.events[1].payload", "object"),
        (b'[{"payload": {}, "at": "soon"}]', "$[0].at", None),
        (b'{"payload": {}, "surprise": 1}', "$.surprise", None),
    ],
)
async def test_a_malformed_body_is_refused_with_the_path_of_the_field(
    client: Any, house: House, sent: bytes, field: str, expected: str | None
) -> None:
    path = f"{house.ours.base}/observability/events"
    answer = await client.post(path, headers=house.ours.headers(), content=sent)
    assert shape(answer) == (400, "validation_failed")
    details = answer.json()["error"]["details"]
    assert details["field"] == field
    assert expected is None or details["expected"] == expected


async def test_a_body_nested_too_deeply_is_refused(client: Any, house: House) -> None:
    sent = b'{"payload":' * 1 + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    answer = await client.post(f"{house.ours.base}/observability/events", headers=house.ours.headers(), content=sent)
    assert shape(answer) == (400, "validation_failed")


@pytest.fixture
async def small(settings: Any, house: House) -> Any:
    app = create_app(msgspec.structs.replace(settings, body_bytes_max=1_000))
    async with AsyncTestClient(app, raise_server_exceptions=False) as client:
        yield client


async def test_too_large_bodies_are_refused_plain_and_zipped(small: Any, house: House) -> None:
    path, headers = f"{house.ours.base}/observability/events", house.ours.headers()
    large = b" " * 5_000
    assert shape(await small.post(path, headers=headers, content=large)) == (413, "too_large")
    for name, packed in (("gzip", gzip.compress(large)), ("deflate", zlib.compress(large))):
        answer = await small.post(path, headers={**headers, "Content-Encoding": name}, content=packed)
        assert shape(answer) == (413, "too_large")


async def test_a_body_without_a_length_is_cut_off_at_the_limit(settings: Any, house: House) -> None:
    async def unannounced() -> Any:
        for _ in range(6):
            yield b" " * 500

    async with (
        serving(create_app(msgspec.structs.replace(settings, body_bytes_max=1_000))) as live,
        httpx.AsyncClient(base_url=live.url) as client,
    ):
        path = f"{house.ours.base}/observability/events"
        answer = await client.post(path, headers=house.ours.headers(), content=unannounced())
        assert shape(answer) == (413, "too_large")


async def test_zipped_bodies_are_read_and_broken_or_unknown_ones_refused(client: Any, house: House) -> None:
    path, headers = f"{house.ours.base}/observability/events", house.ours.headers()
    sent = body(hook("zipped"))
    good = await client.post(path, headers={**headers, "Content-Encoding": "gzip"}, content=gzip.compress(sent))
    assert good.status_code == 202
    for name, packed, status in (
        ("gzip", b"not gzip", 400),
        ("gzip", gzip.compress(sent)[:-9], 400),
        ("br", sent, 415),
    ):
        answer = await client.post(path, headers={**headers, "Content-Encoding": name}, content=packed)
        assert shape(answer)[0] == status


def test_inflating_never_holds_more_than_the_limit_and_reads_all_members() -> None:
    assert inflate(gzip.compress(b"ab") + gzip.compress(b"cd"), GZIP_WBITS, 4) == b"abcd"
    with pytest.raises(ApiError) as refused:
        inflate(gzip.compress(b"\0" * 10_000_000), GZIP_WBITS, 1_000)
    assert refused.value.status == 413


async def test_a_store_that_cannot_answer_is_503_with_retry_after(client: Any, app: Any, house: House) -> None:
    async def refuse(_: Any) -> Any:
        raise StoreUnavailableError("the disk is full")

    app.state.services.store.append = refuse
    answer = await client.post(
        f"{house.ours.base}/observability/events", headers=house.ours.headers(), content=body(hook("s"))
    )
    assert shape(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert "disk" not in answer.text


async def test_the_unforeseen_is_500_logged_once_and_tells_nothing(client: Any, app: Any, house: House) -> None:
    async def fail(_: Any) -> Any:
        raise RuntimeError("password=hunter2")

    app.state.services.store.append = fail
    with capture_logs() as logs:
        answer = await client.post(
            f"{house.ours.base}/observability/events", headers=house.ours.headers(), content=body(hook("s"))
        )
    assert shape(answer) == (500, "internal_error")
    assert "hunter2" not in answer.text
    assert [line["event"] for line in logs].count("request.failed") == 1


async def test_a_read_model_of_the_version_before_is_503_until_the_new_one_is_filled(
    client: Any, house: House, settings: Any
) -> None:
    owner = await asyncpg.connect(settings.database_url)
    await owner.execute("ALTER VIEW crewkit.session RENAME COLUMN active_slot TO of_another_version")
    await owner.close()
    with capture_logs() as logs:
        answer = await client.get(f"{house.ours.base}/sessions", headers=house.ours.headers("read"))
    assert shape(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert [line["event"] for line in logs].count("request.failed") == 1


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (ConnectionRefusedError("10.0.0.7"), "does not answer"),
        (asyncpg.ConnectionDoesNotExistError("10.0.0.7"), "does not answer"),
        (asyncpg.CannotConnectNowError("10.0.0.7"), "does not answer"),
        (asyncpg.TooManyConnectionsError("10.0.0.7"), "does not answer"),
        (asyncpg.InterfaceError("connection is closed 10.0.0.7"), "does not answer"),
        (asyncpg.QueryCanceledError("statement timeout 10.0.0.7"), "ask for less"),
    ],
)
async def test_reading_while_the_database_is_away_is_503_with_retry_after(
    client: Any, app: Any, house: House, failure: Exception, told: str
) -> None:
    headers = house.ours.headers("read")
    assert (await client.get(f"{house.ours.base}/events", headers=headers)).status_code == 200

    async def fail(*_: Any, **__: Any) -> Any:
        raise failure

    app.state.services.store.find = fail
    with capture_logs() as logs:
        answer = await client.get(f"{house.ours.base}/events", headers=headers)
    assert shape(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert told in answer.text
    assert "10.0.0.7" not in answer.text
    assert [line["event"] for line in logs].count("request.failed") == 1


async def test_each_request_is_one_log_line_without_secrets_and_bodies(client: Any, house: House) -> None:
    with capture_logs() as logs:
        await client.post(
            f"{house.ours.base}/observability/events?x=secret",
            headers={**house.ours.headers(), "X-Request-Id": "r-1"},
            content=body(hook("s", prompt="my secret plan")),
        )
    (line,) = [line for line in logs if line["event"] == "request.handled"]
    assert line["request_id"] == "r-1"
    assert line["route"] == "/api/v1/{organization_id}/observability/events"
    assert line["status"] == 202
    assert "secret" not in str(logs)
    assert house.ours.keys["all"] not in str(logs)


async def test_the_documentation_is_served_in_both_places(client: Any) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "<script" not in page.text
    assert re.findall(r"(?:src|href|action)=[\"']?(?:https?:)?//|url\(|@import", page.text) == []
    assert re.findall(r"https?://", page.text) == []
    document = (await client.get("/docs/openapi.json")).json()
    assert (await client.get("/schema/openapi.json")).json() == document
    for path, item in document["paths"].items():
        for method in item:
            shown = f'<span class="method">{method.upper()}</span> <code>{path}</code>'
            assert shown in page.text
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    served = {(method, path) for method, path in permissions.TABLE if not path.startswith(("/docs", "/schema"))}
    served = {(method, path) for method, path in served if method != "WS"}  # OpenAPI has no words for WebSockets
    assert documented == served
    events = document["paths"]["/api/v1/{organization_id}/observability/events"]["post"]
    assert "events" in events["requestBody"]["content"]["application/json"]["schema"]["properties"]


def test_a_route_without_a_permission_entry_stops_the_start(settings_without_database: Any) -> None:
    @get("/forgotten")
    async def forgotten() -> str:
        return ""

    app = create_app(settings_without_database)
    app.register(Router("/", route_handlers=[forgotten]))
    with pytest.raises(permissions.PermissionTableError, match="GET /forgotten"):
        permissions.check(app.routes)


@pytest.fixture
def settings_without_database(tmp_path: Any) -> Any:
    return Settings(database_url="postgresql://nobody@127.0.0.1:1/none", data_dir=str(tmp_path))


def test_the_permission_table_names_only_routes_that_exist(settings_without_database: Any) -> None:
    served = set(permissions.operations(create_app(settings_without_database).routes))
    assert set(permissions.TABLE) == served


def test_a_missing_database_url_is_named(monkeypatch: Any) -> None:
    monkeypatch.delenv("CREWKIT_DATABASE_URL", raising=False)
    with pytest.raises(ValueError, match="CREWKIT_DATABASE_URL"):
        create_app()


def test_a_bucket_refills_and_the_number_of_buckets_is_bounded() -> None:
    now = [0.0]
    limiter = RateLimiter(2, clock=lambda: now[0])
    limiter.take("a")
    limiter.take("a")
    with pytest.raises(ApiError) as refused:
        limiter.take("a")
    assert refused.value.headers["Retry-After"] == "1"
    limiter.take("b")
    now[0] = 0.5
    limiter.take("a")
    for caller in range(BUCKETS_MAX + 10):
        limiter.take(str(caller))
    assert len(limiter._buckets) == BUCKETS_MAX


async def test_who_is_too_fast_is_told_when_to_come_back(settings: Any, house: House) -> None:
    app = create_app(msgspec.structs.replace(settings, rate_limit_per_s=1))
    async with AsyncTestClient(app) as client:
        await client.get(f"{house.ours.base}/events", headers=house.ours.headers())
        now = app.state.services.limiter._clock()
        app.state.services.limiter._clock = lambda: now
        await client.get(f"{house.ours.base}/events", headers=house.ours.headers())
        answers = [await client.get(f"{house.ours.base}/events", headers=house.ours.headers()) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {429}
        assert shape(answers[-1]) == (429, "rate_limited")
        assert int(answers[-1].headers["retry-after"]) >= 1
        other = await client.get(f"{house.theirs.base}/events", headers=house.theirs.headers())
        assert other.status_code == 200, "another principal is not slowed down"
