"""Analytics over HTTP: each route asks one question of an analytics worker."""

from __future__ import annotations

from litestar import Router
from litestar.di import Provide

from api.analytics import costs, kpis, ledger, weekly
from api.analytics.asking import scope_of

ROUTER = Router(
    "/",
    route_handlers=[*kpis.HANDLERS, *costs.HANDLERS, *ledger.HANDLERS],
    dependencies={"part": Provide(scope_of)},
    tags=["analytics"],
)
WEEKLY = Router("/", route_handlers=[*weekly.HANDLERS], tags=["analytics"])
