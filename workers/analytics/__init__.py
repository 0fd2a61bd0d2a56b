"""The analytics process: a DuckDB file made of the sessions read model, and answers from it."""

from __future__ import annotations

from eventstore.settings import Settings
from projections.analytics.asking import SUBJECT
from workers.analytics.host import Replica
from workers.blocks import Names
from workers.lifecycle import until_cancelled

__all__ = ["run_analytics"]


async def run_analytics(settings: Settings, *, names: Names | None = None, subject: str = SUBJECT) -> None:
    """Follow and answer until cancelled; then finish the batch in hand."""
    await until_cancelled(Replica(settings, names or Names(), subject).run)
