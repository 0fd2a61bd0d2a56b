"""Analytics over HTTP: each route asks one question of an analytics worker."""

from __future__ import annotations

from litestar import Router
from litestar.di import Provide

from api.analytics import costs, kpis, ledger, weekly
from api.analytics.asking import filters_of, scope_of

ROUTER = Router(
    "/",
    route_handlers=[*kpis.HANDLERS, *costs.HANDLERS, *ledger.HANDLERS],
    dependencies={"filters": Provide(filters_of), "part": Provide(scope_of)},
    tags=["analytics"],
)
WEEKLY = Router(
    "/", route_handlers=[*weekly.HANDLERS], dependencies={"filters": Provide(filters_of)}, tags=["analytics"]
)
