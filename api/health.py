"""Whether it works (`/health`), for people and orchestrators, and how well (`/metrics`), for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from litestar import Request, Response, Router, get
from prometheus_client import CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from api.analytics.vitals import Replicas, component
from api.services import Services, services_of
from domain.words import counted
from projections.installation import DATABASE_AWAY, ConsolidationVitals, Vitals, vitals
from schemas.health import Component, Health, Live

CHECK_S = 2.0
LAG_MAX = 10_000  # events; a reader of the log that is further behind is named in the health answer
WAITED_S_MAX = 60.0  # and so is one that leaves an event for longer than this: it hangs, or nobody runs it
SEAL_LATE_S = 300.0  # the oldest event without a checkpoint may be this old
REACTION_AGE_S_MAX = 3600.0  # an effect that has waited longer is named
_RANK = {"ok": 0, "degraded": 1, "down": 2}
PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def _look(services: Services) -> Vitals | None:
    try:
        return await vitals(services.pool, CHECK_S)
    except DATABASE_AWAY:
        return None


def components(services: Services, seen: Vitals | None) -> dict[str, Component]:
    """Each part by name; what cannot be looked at because the database is away is left out."""
    bus = services.bus
    found: dict[str, Component] = {}
    if bus.connected:
        found["nats"] = Component(status="ok")
    elif bus.configured:
        found["nats"] = Component(status="degraded", message="not connected; projectors read Postgres instead")
    else:
        found["nats"] = Component(status="degraded", message="not configured (CREWKIT_NATS_URL)")
    if seen is None:
        found["database"] = Component(status="down", message="Postgres does not answer")
        return found
    found["database"] = Component(status="ok", details={"head": seen.head})
    behind = _behind(seen.relay_lag, seen.relay_waited_s)
    found["relay"] = Component(
        status="degraded" if behind else "ok",
        message=behind,
        details={"lag": seen.relay_lag, "position": seen.relay_position},
    )
    late = seen.unsealed_s > SEAL_LATE_S
    found["sealer"] = Component(
        status="degraded" if late else "ok",
        message=f"events wait for a checkpoint since {seen.unsealed_s:.0f} s; is the sealer running?" if late else "",
        details={
            "lag": max(0, seen.head - seen.sealed_position),
            "position": seen.sealed_position,
            "checkpoint": seen.sealed_number,
        },
    )
    found["reactor"] = _reactor(seen)
    if seen.analytics:
        found["analytics"] = component(seen.analytics)
    active = [one for one in seen.projections if one.active]
    for one in active:
        details: dict[str, Any] = {"lag": one.lag, "position": one.position, "state": one.status}
        status, message = "ok", ""
        if one.status == "failed":
            details["failed_position"] = one.failed_position
            status, message = "degraded", "stopped at an event it cannot apply; see `crewkit projections status`"
        elif behind := _behind(one.lag, one.waited_s):
            status, message = "degraded", behind
        found[f"projection.{one.projection}"] = Component(status=status, message=message, details=details)
    if not active:
        found["projections"] = Component(status="degraded", message="no projector has run yet")
    return found


def _behind(lag: int, waited_s: float) -> str:
    """What to say of a reader of the log that is behind; empty: it keeps up."""
    if lag <= LAG_MAX and waited_s <= WAITED_S_MAX:
        return ""
    return f"behind: its oldest event waits for {waited_s:.0f} s; is it running?"


def _reactor(seen: Vitals) -> Component:
    dead = sum(one.count for one in seen.reactions if one.state == "dead")
    waiting = [one for one in seen.reactions if one.state == "waiting"]
    details: dict[str, Any] = {
        "lag": seen.reactor_lag,
        "position": seen.reactor_position,
        "waiting": sum(one.count for one in waiting),
        "dead": dead,
    }
    message = ""
    if dead:
        message = f"given up: {counted(dead, 'effect')}; see `crewkit reactions list --state dead`"
    elif behind := _behind(seen.reactor_lag, seen.reactor_waited_s):
        message = behind
    elif any(one.oldest_s > REACTION_AGE_S_MAX for one in waiting):
        message = "effects have waited for more than an hour; see `crewkit reactions list --state waiting`"
    return Component(status="degraded" if message else "ok", message=message, details=details)


@get(["/health", "/api/health"], summary="The state of each component")
async def health(request: Request[Any, Any, Any]) -> Response[Health]:
    """200 while requests can be served, 503 when the database is away."""
    services = services_of(request)
    found = components(services, await _look(services))
    worst = max((component.status for component in found.values()), key=_RANK.__getitem__)
    return Response(Health(status=worst, components=found), status_code=503 if worst == "down" else 200)


@get("/health/live", summary="Is the process alive?")
async def live() -> Live:
    """Touches nothing: restart the process when this does not answer."""
    return Live()


@get("/health/ready", summary="Can requests be served?")
async def ready(request: Request[Any, Any, Any]) -> Response[Health]:
    """503 while the database is away; NATS may be away, appends and reads go on without it."""
    services = services_of(request)
    found = components(services, await _look(services))
    database = found["database"]
    return Response(
        Health(status=database.status, components={"database": database, "nats": found["nats"]}),
        status_code=200 if database.status == "ok" else 503,
    )


@get("/metrics", summary="Prometheus metrics", media_type=PROMETHEUS_TYPE)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Open to callers on the same machine that are no proxy; from elsewhere with a key of scope `admin`."""
    services = services_of(request)
    seen = await _look(services)
    text = services.metrics.exposition() + generate_latest(table_metrics(seen))
    return Response(text, headers={"Content-Type": PROMETHEUS_TYPE})


def table_metrics(seen: Vitals | None) -> CollectorRegistry:
    """What the tables say at the moment of the scrape; the same from every API process."""
    registry = CollectorRegistry()
    up = Gauge("crewkit_database_up", "1 when Postgres answered this scrape", registry=registry)
    up.set(0 if seen is None else 1)
    if seen is None:
        return registry
    Gauge("crewkit_store_head", "Position of the newest event", registry=registry).set(seen.head)
    Gauge("crewkit_relay_lag_events", "Events stored and not yet published", registry=registry).set(seen.relay_lag)
    relay_waited = Gauge("crewkit_relay_lag_seconds", "Age of the oldest of them; 0: none", registry=registry)
    relay_waited.set(seen.relay_waited_s)
    sealed = Gauge(
        "crewkit_sealed_position", "Position of the newest event that a checkpoint covers", registry=registry
    )
    sealed.set(seen.sealed_position)
    Gauge("crewkit_sealed_checkpoint", "Number of the newest checkpoint", registry=registry).set(seen.sealed_number)
    waiting = Gauge(
        "crewkit_unsealed_seconds", "Age of the oldest event that no checkpoint covers; 0: none", registry=registry
    )
    waiting.set(seen.unsealed_s)
    _consolidation_metrics(registry, seen.consolidation)
    Gauge("crewkit_reactor_lag_events", "Events the reactor has not looked at", registry=registry).set(seen.reactor_lag)
    reactor_waited = Gauge("crewkit_reactor_lag_seconds", "Age of the oldest of them; 0: none", registry=registry)
    reactor_waited.set(seen.reactor_waited_s)
    kinds = ("kind", "state")
    reactions = Gauge("crewkit_reactions", "Effects of events that wait or were given up", kinds, registry=registry)
    oldest = Gauge("crewkit_reactions_oldest_seconds", "Age of the oldest of them", kinds, registry=registry)
    for each in seen.reactions:
        reactions.labels(each.kind, each.state).set(each.count)
        oldest.labels(each.kind, each.state).set(each.oldest_s)
    registry.register(Replicas(seen.analytics))
    names = ("projection", "generation")
    lag = Gauge("crewkit_projection_lag_events", "Events a projection is behind the head", names, registry=registry)
    position = Gauge("crewkit_projection_position", "Position a projection has reached", names, registry=registry)
    waited = Gauge(
        "crewkit_projection_lag_seconds",
        "Age of the oldest event that a projection has not folded; 0: none",
        names,
        registry=registry,
    )
    running = Gauge(
        "crewkit_projection_state",
        "1 for the state a projection's generation is in",
        (*names, "state"),
        registry=registry,
    )
    skipped = Gauge(
        "crewkit_projection_skipped", "Events an operator told a projection to skip", names, registry=registry
    )
    for one in seen.projections:
        labels = (one.projection, str(one.generation))
        if one.status != "retired":  # nobody moves those any more: their lag would grow for ever
            lag.labels(*labels).set(one.lag)
            waited.labels(*labels).set(one.waited_s)
            position.labels(*labels).set(one.position)
        running.labels(*labels, one.status).set(1)
        skipped.labels(*labels).set(one.skipped)
    return registry


class _Counted(Collector):
    """Counters that a table keeps: their values are as old as the table, so no time of creation is told with them."""

    def __init__(self, *counted: tuple[str, str, int]) -> None:
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        for name, meaning, value in self._counted:
            yield CounterMetricFamily(f"crewkit_consolidation_{name}", meaning, value=value)


def _consolidation_metrics(registry: CollectorRegistry, told: ConsolidationVitals) -> None:
    counted = _Counted(
        ("objects", "Objects in the object store that hold items of sessions", told.objects),
        ("items", "Items of sessions in the object store", told.items),
        ("bytes", "Bytes of items in the object store, compressed", told.bytes),
        ("failures", "Attempts to write items to the object store that failed", told.failures),
    )
    registry.register(counted)
    backlog = Gauge(
        "crewkit_consolidation_backlog", "Conversations whose items wait for the object store", registry=registry
    )
    backlog.set(told.backlog)


ROUTER = Router("/", route_handlers=[health, live, ready, metrics], tags=["service"])
