"""OTLP/HTTP as its specification words it, in both encodings."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from api.otlp import from_json, from_protobuf
from tests.api.house import House, body

REQUESTS = {
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


def bodies(path: Any) -> list[Any]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [one.get("body", one) if "body" in one else one for one in found]


def as_protobuf(signal: str, tree: Any) -> bytes:
    """The same request in the other encoding; ids are hex in OTLP/JSON and base64 in protobuf's."""

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: base64.b64encode(bytes.fromhex(value)).decode()
                if key in {"traceId", "spanId", "parentSpanId"} and isinstance(value, str)
                else walk(value)
                for key, value in node.items()
            }
        return [walk(item) for item in node] if isinstance(node, list) else node

    return ParseDict(walk(tree), REQUESTS[signal](), ignore_unknown_fields=True).SerializeToString()


@pytest.mark.parametrize("signal", ["logs", "metrics", "traces"])
def test_both_encodings_of_a_recording_give_the_same_records(signal: str, recordings: Any) -> None:
    for path in sorted(recordings.glob(f"*/otlp_{signal}.jsonl")):
        for tree in bodies(path):
            ours = from_json.decode(signal, body(tree))
            assert ours.rejected == 0
            assert ours.records == from_protobuf.decode(signal, as_protobuf(signal, tree)).records


def test_numbers_may_be_strings_and_odd_records_are_counted() -> None:
    points = [{"asInt": "12", "timeUnixNano": "5"}, {"asDouble": "0.5"}, {"asDouble": 3}, "odd", {"asDouble": "NaN"}]
    metric = {"name": "m", "sum": {"aggregationTemporality": 1, "dataPoints": points}}
    tree = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric, {"name": "empty"}]}]}]}
    found = from_json.decode("metrics", body(tree))
    assert [record.value for record in found.records] == [12, 0.5, 3, None]
    assert found.records[0].time_unix_nano == 5
    assert found.records[0].temporality == "delta"
    assert found.rejected == 2


def log(session: str | None, number: int = 1) -> dict[str, Any]:
    attributes = [{"key": "event.name", "value": {"stringValue": "user_prompt"}}]
    attributes.append({"key": "event.sequence", "value": {"intValue": str(number)}})
    if session:
        attributes.append({"key": "session.id", "value": {"stringValue": session}})
    return {"timeUnixNano": "1795211000000000000", "body": {"stringValue": "x"}, "attributes": attributes}


def request(*records: Any) -> dict[str, Any]:
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": list(records)}]}]}


async def test_success_is_an_empty_answer_in_the_encoding_of_the_request(client: Any, house: House) -> None:
    tree, headers = request(log("s1")), house.ours.headers("ingest")
    plain = await client.post("/v1/logs", headers={**headers, **JSON}, content=body(tree))
    assert (plain.status_code, plain.json()) == (200, {})
    assert plain.headers["content-type"].startswith("application/json")
    assert int(plain.headers["crewkit-position"]) == await house.store.head()
    packed = gzip.compress(as_protobuf("logs", tree))
    binary = await client.post("/v1/logs", headers={**headers, **PROTOBUF, "Content-Encoding": "gzip"}, content=packed)
    assert (binary.status_code, binary.content) == (200, b"")
    assert binary.headers["content-type"].startswith("application/x-protobuf")


async def test_what_was_rejected_is_a_partial_success(client: Any, house: House) -> None:
    tree, headers = request(log("s1"), log(None), 7), house.ours.headers("ingest")
    plain = await client.post("/v1/logs", headers={**headers, **JSON}, content=body(tree))
    assert plain.status_code == 200
    assert plain.json()["partialSuccess"]["rejectedLogRecords"] == "2"
    assert "session" in plain.json()["partialSuccess"]["errorMessage"]
    sent = as_protobuf("logs", request(log("s1", 2), log(None)))
    binary = await client.post("/v1/logs", headers={**headers, **PROTOBUF}, content=sent)
    told = ExportLogsServiceResponse.FromString(binary.content).partial_success
    assert (told.rejected_log_records, "session" in told.error_message) == (1, True)


async def test_a_record_that_says_nothing_about_itself_is_refused_aloud(client: Any, house: House) -> None:
    tree, headers = request({"body": {"stringValue": "hello"}}), house.ours.headers("ingest")
    plain = await client.post("/v1/logs", headers={**headers, **JSON}, content=body(tree))
    assert plain.json()["partialSuccess"]["rejectedLogRecords"] == "1"
    assert plain.json()["partialSuccess"]["errorMessage"].startswith(
        "1 record cannot be filed: expected attribute session.id"
    )
    binary = await client.post("/v1/logs", headers={**headers, **PROTOBUF}, content=as_protobuf("logs", tree))
    assert ExportLogsServiceResponse.FromString(binary.content).partial_success.rejected_log_records == 1


async def test_an_exporter_that_speaks_of_itself_is_not_made_to_speak_again(client: Any, house: House) -> None:
    scoped = {"scope": {"name": "codex_otel::metrics::client"}, "logRecords": [{"body": {"stringValue": "flushing"}}]}
    tree, headers = {"resourceLogs": [{"scopeLogs": [scoped]}]}, house.ours.headers("ingest")
    before = await house.store.head()
    assert (await client.post("/v1/logs", headers={**headers, **JSON}, content=body(tree))).json() == {}
    assert await house.store.head() == before


async def test_a_log_record_without_a_name_is_kept_and_its_text_sealed(client: Any, house: House) -> None:
    attributes = [{"key": "session.id", "value": {"stringValue": "s9"}}]
    tree = request({"body": {"stringValue": "Ada wants a pony"}, "attributes": attributes})
    by_resource = {"resource": {"attributes": attributes}, "scopeLogs": [{"logRecords": [{"eventName": "seen"}]}]}
    tree["resourceLogs"].append(by_resource)
    headers = {**house.ours.headers("ingest"), **JSON}
    assert (await client.post("/v1/logs", headers=headers, content=body(tree))).json() == {}
    await house.project()
    page = f"{house.ours.base}/events?stream=LlmSession:s9"
    found = (await client.get(page, headers=house.ours.headers("read"))).json()["items"]
    assert [one["data"]["kind"] for one in found] == ["unnamed", "seen"]
    assert "pony" not in str(found)
    shown = await client.get(f"{house.ours.base}/sessions/s9", headers=house.ours.headers("read"))
    assert shown.json()["llm_sessions"][0]["unknown_kinds"] == {"unnamed": 1, "seen": 1}


async def test_each_reason_of_a_refusal_is_told_with_its_count(client: Any, house: House) -> None:
    session = [{"key": "session.id", "value": {"stringValue": "s1"}}]
    spans = [{"traceId": "a" * 32, "spanId": "b" * 16, "attributes": session}, {"name": "x"}, {"name": "y"}]
    tree, headers = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}, house.ours.headers("ingest")
    told = (await client.post("/v1/traces", headers={**headers, **JSON}, content=body(tree))).json()["partialSuccess"]
    assert told["rejectedSpans"] == "3"
    assert "1 record cannot be filed: expected a name" in told["errorMessage"]
    assert "2 records cannot be filed: expected attribute session.id" in told["errorMessage"]


async def test_what_cannot_be_decoded_is_a_status_message(client: Any, house: House) -> None:
    headers = house.ours.headers("ingest")
    plain = await client.post("/v1/logs", headers={**headers, **JSON}, content=b'{"resourceLogs":7}')
    assert (plain.status_code, plain.json()["code"]) == (400, 3)
    assert plain.json()["error"]["details"]["field"] == "$.resourceLogs"
    binary = await client.post("/v1/logs", headers={**headers, **PROTOBUF}, content=b"\xff\xff\xff")
    assert binary.status_code == 400
    assert binary.headers["content-type"].startswith("application/x-protobuf")
    assert binary.content[:2] == b"\x08\x03"
    assert binary.content[4:] == b"$: the body is not a protobuf message of this signal"
    assert (await client.post("/v1/logs", headers=JSON, content=b"{}")).json()["code"] == 16


async def test_metrics_and_traces_are_taken(client: Any, house: House, recordings: Any) -> None:
    for signal in ("metrics", "traces"):
        for tree in bodies(recordings / "claude-0447534f" / f"otlp_{signal}.jsonl"):
            headers = {**house.ours.headers("ingest"), **JSON}
            answer = await client.post(f"/v1/{signal}", headers=headers, content=body(tree))
            assert (answer.status_code, answer.json()) == (200, {})
