"""How the analytics replicas are, for /health and /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from projections.installation import AnalyticsVitals
from schemas.health import Component

SILENT_S = 30.0  # a replica tells of itself every few seconds, except while it builds its file
LAG_MAX = 10_000  # events; more than this is named in the health answer

_Numbers = tuple[tuple[str, str, Callable[[AnalyticsVitals], float]], ...]
_GAUGES: _Numbers = (
    ("position", "Position up to which the rows of an analytics replica go", lambda one: one.position),
    ("lag_events", "Events of the sessions read model that an analytics replica has not taken", lambda one: one.lag),
    ("rows", "Rows in the file of an analytics replica", lambda one: one.rows),
    ("file_bytes", "Size of the file of an analytics replica", lambda one: one.file_bytes),
    ("heard_seconds", "Seconds since an analytics replica told of itself", lambda one: one.heard_s),
    ("question_p50_seconds", "Half of the newest questions took no longer", lambda one: one.p50_s),
    ("question_p99_seconds", "99 % of the newest questions took no longer", lambda one: one.p99_s),
)
_COUNTERS: _Numbers = (
    ("written_rows", "Rows an analytics replica wrote since its start", lambda one: one.written),
    ("rebuilds", "Files an analytics replica built anew since its start", lambda one: one.rebuilds),
    ("questions", "Questions an analytics replica was asked since its start", lambda one: one.asked),
    ("question_failures", "Questions that failed or took too long", lambda one: one.failed),
)


class Replicas(Collector):
    """Their numbers, as they wrote them down last."""

    def __init__(self, seen: Sequence[AnalyticsVitals]) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """One family per number, one sample per replica."""
        for numbers, family in ((_GAUGES, GaugeMetricFamily), (_COUNTERS, CounterMetricFamily)):
            for name, meaning, value in numbers:
                found = family(f"crewkit_analytics_{name}", meaning, labels=["replica"])
                for one in self._seen:
                    found.add_metric([one.replica], value(one))
                yield found


def component(seen: Sequence[AnalyticsVitals]) -> Component:
    """Shown once a replica has run: analytics is an extra."""
    alive = [one for one in seen if one.heard_s < SILENT_S]
    best = max(alive or seen, key=lambda one: one.position)
    details: dict[str, Any] = {"lag": best.lag, "position": best.position, "replicas": len(alive), "rows": best.rows}
    message = ""
    if not alive:
        message = f"no replica was heard of for {best.heard_s:.0f} s; is the analytics worker running?"
    elif best.lag > LAG_MAX:
        message = "behind the sessions read model"
    return Component(status="degraded" if message else "ok", message=message, details=details)
