"""Raw limits of this machine's Postgres, measured where a row needs them."""

from __future__ import annotations

import asyncio

import msgspec

from eventstore.migrate import migrate
from tests.benchmarks import machine
from tests.benchmarks.bench import Bench
from tests.benchmarks.peers import raw

RAW_MARGIN_S = 60.0


def raw_rates(bench: Bench, seconds: float, cases: tuple[str, ...]) -> dict[str, float]:
    """Rows per second of `<table>-<connections>` cases on a fresh Postgres with our settings, one after the other."""
    rates: dict[str, float] = {}
    with bench.postgres() as server:
        asyncio.run(migrate(server.url("postgres")))
        for case in cases:
            table, _, connections = case.partition("-")
            plan = raw.Plan(
                dsn=server.url("postgres"), table=table, connections=int(connections), seconds=seconds / len(cases) + 1
            )
            text = msgspec.json.encode(plan).decode()
            answer = machine.run_module("tests.benchmarks.peers.raw", text, timeout_s=seconds + RAW_MARGIN_S)
            rates[case] = msgspec.json.decode(answer, type=raw.Report).rate
    return rates
