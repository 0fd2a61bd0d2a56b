"""The system under test: a real `crewkit up`, its database for looking inside, its memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import msgspec
import psutil

from eventstore.database import prepare_connection
from eventstore.settings import Settings
from tests.benchmarks import load, machine
from tests.benchmarks.bench import Bench
from workers.local.instance import Instance, read_instance
from workers.local.places import complete
from workers.serve import is_healthy

T = TypeVar("T")
READY_MAX_S = 120.0
CAUGHT_UP_MAX_S = 600.0
POLL_S = 0.01
NOTES_S = 0.25  # between two looks at the lag


class System:
    """`crewkit up` on a data directory of its own; stops and starts again on the same one."""

    def __init__(self, bench: Bench, name: str, *, port: int = 0, **environment: str) -> None:
        """`environment` are settings (`CREWKIT_…`) that differ from the defaults."""
        self.bench = bench
        self.folder = bench.path(name)
        self.client_home = bench.path(f"{name}-client")
        self.port = port
        self.changed = environment
        self.process: subprocess.Popen[bytes] | None = None
        self.log = bench.folder / f"{self.folder.name}.log"
        bench.cleanup.callback(self.stop)

    def start(self) -> float:
        """Start and wait until every part says it is well.  Returns the seconds it took.

        Raises:
            RuntimeError: it ended, or was not ready in time; the message ends with its log.
        """
        before = read_instance(self.folder)
        started = time.perf_counter()
        command = [sys.executable, "-m", "crewkit", "up", "--data-dir", self.folder, "--port", str(self.port)]
        self.process = machine.spawn(command, self.log, env=self.environment())
        while True:
            found = read_instance(self.folder)
            fresh = found is not None and found.pids and (before is None or found.started_at != before.started_at)
            if found is not None and fresh:
                host, _, port = found.url.rpartition("//")[2].partition(":")
                if is_healthy(host, int(port)):
                    break
            if self.process.poll() is not None or time.perf_counter() - started > READY_MAX_S:
                raise RuntimeError(f"crewkit up did not become ready: {self.log.read_text(errors='replace')[-1500:]}")
            time.sleep(POLL_S)
        took = time.perf_counter() - started
        self.port = int(self.instance.url.rpartition(":")[2])
        return took

    def environment(self) -> dict[str, str]:
        """For `crewkit` commands: no settings of the caller, a client folder of the bench."""
        home = str(self.client_home)
        return machine.clean_environment(CREWKIT_HOME=home, HOME=home, **self.changed)

    def stop(self) -> None:
        """Stop it; does nothing when it does not run."""
        if self.process is not None:
            machine.stop(self.process)
            self.process = None

    @property
    def instance(self) -> Instance:
        """What crewkit.json says."""
        found = read_instance(self.folder)
        if found is None:
            raise RuntimeError("crewkit.json is missing or cannot be read")
        return found

    def plan(self, **changes: Any) -> load.Plan:
        """A load plan against the ingestion endpoint, with the key of the instance."""
        instance = self.instance
        plan = load.Plan(
            url=instance.url,
            path=f"/api/v1/{instance.organization}/observability/events",
            headers={"X-API-Key": instance.api_key},
        )
        return msgspec.structs.replace(plan, **changes)

    def database_url(self) -> str:
        """With the password, for looking inside."""
        url = complete(Settings(data_dir=str(self.folder))).database_url
        if url is None:
            raise RuntimeError("the instance does not say which database it uses")
        return url

    def query(self, ask: Callable[[asyncpg.Connection[Any]], Awaitable[T]]) -> T:
        """Run `ask` with a connection of the database's owner."""

        async def run() -> T:
            connection = await asyncpg.connect(self.database_url(), statement_cache_size=0)
            await prepare_connection(connection)
            try:
                return await ask(connection)
            finally:
                await connection.close()

        return asyncio.run(run())

    def processes(self) -> list[psutil.Process]:
        """Every process of the instance, servers included."""
        assert self.process is not None
        known = {process.pid: process for process in machine.descendants(self.process.pid)}
        for pid in self.instance.pids.values():
            known |= {process.pid: process for process in machine.descendants(pid)}
        return list(known.values())

    def memory(self) -> machine.Memory:
        """What all processes take now."""
        return machine.Memory(self.processes())

    def stored(self) -> int:
        """Number of stored channel facts, counted row by row."""
        return int(
            self.query(lambda c: c.fetchval("SELECT count(*) FROM crewkit.event WHERE type LIKE '%.recorded.v%'"))
        )

    def head(self) -> int:
        """The last position."""
        return int(self.query(lambda c: c.fetchval("SELECT crewkit.head()")))

    def catch_up(self) -> float:
        """Wait until every projection and the relay have passed the head.  Returns the seconds it took.

        Raises:
            RuntimeError: one of them failed or stayed behind.
        """
        started = time.perf_counter()
        deadline = started + CAUGHT_UP_MAX_S

        async def wait(connection: asyncpg.Connection[Any]) -> None:
            while True:
                behind, failed = await lag(connection)
                if failed:
                    raise RuntimeError(f"a projection stopped: {failed}")
                if behind <= 0:
                    return
                if time.perf_counter() > deadline:
                    raise RuntimeError(f"still {behind} events behind after {CAUGHT_UP_MAX_S:.0f} s")
                await asyncio.sleep(POLL_S)

        self.query(wait)
        return time.perf_counter() - started

    def verify(self, before: int, accepted: int) -> float:
        """Every acknowledged event is stored once, and the projections arrive at the head.  Returns their delay in seconds.

        Raises:
            RuntimeError: stored and acknowledged differ, positions have a gap, or the read model does not add up.
        """
        late = self.catch_up()
        stored = self.stored() - before
        if stored != accepted:
            raise RuntimeError(f"{accepted} events were acknowledged, {stored} are stored")
        self.query(check_projection)
        return late


async def lag(connection: asyncpg.Connection[Any]) -> tuple[int, str]:
    """Events between the head and the slowest of relay and active projections; and what stopped, if something did."""
    row = await connection.fetchrow(
        """
        SELECT crewkit.head() - least((SELECT min(c.position) FROM crewkit.checkpoint c JOIN crewkit.projection p
            ON p.name = c.projection AND p.active_generation = c.generation), (SELECT position FROM crewkit.relay)) AS behind,
          (SELECT string_agg(c.projection || ' at ' || c.position || ': ' || coalesce(c.error, ''), '; ')
            FROM crewkit.checkpoint c WHERE c.status = 'failed') AS failed
        """
    )
    assert row is not None
    return int(row["behind"] if row["behind"] is not None else 1), row["failed"] or ""


async def check_projection(connection: asyncpg.Connection[Any]) -> None:
    """The log has no gap, and the read model knows exactly the agent conversations that the log has.

    Raises:
        RuntimeError: what does not add up.
    """
    events, head = await connection.fetchrow("SELECT count(*), max(position) FROM crewkit.event")
    if events != head:
        raise RuntimeError(f"{events} events, but the last position is {head}")
    streams = await connection.fetchval("SELECT count(*) FROM crewkit.stream WHERE kind = 'LlmSession'")
    shown = await connection.fetchval("SELECT count(*) FROM crewkit.llm_session")
    if streams != shown:
        raise RuntimeError(f"{streams} agent conversations are stored, the read model shows {shown}")
    hooks = await connection.fetchval("SELECT count(*) FROM crewkit.event WHERE type = 'hook.recorded.v1'")
    folded = await connection.fetchval("SELECT coalesce(sum(hook_facts), 0) FROM crewkit.llm_session")
    if hooks != folded:
        raise RuntimeError(f"{hooks} hook events are stored, the read model counts {folded}")
