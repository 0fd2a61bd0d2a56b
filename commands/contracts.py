"""Agree on discounts with vendors, and undo what was entered by mistake."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from commands.bus import Once, Principal, transact
from domain.contracts import decide
from domain.contracts.decide import Discount
from eventstore.port import EventStore, Outcome


async def set_discount(
    store: EventStore, principal: Principal, discount: Discount, *, once: Once | None = None
) -> Outcome | None:
    """Set a discount of the principal's organization; None when it was so already."""
    now = datetime.now(UTC)
    return await transact(
        store,
        principal.org_id,
        decide.stream(),
        decide.evolve,
        decide.INITIAL,
        lambda state: decide.set_discount(state, discount, at=now),
        meta=principal.meta(),
        once=once,
    )


async def remove_discount(store: EventStore, principal: Principal, discount_id: UUID) -> Outcome | None:
    """Undo a discount of the principal's organization."""
    now = datetime.now(UTC)
    return await transact(
        store,
        principal.org_id,
        decide.stream(),
        decide.evolve,
        decide.INITIAL,
        lambda state: decide.remove_discount(state, discount_id, at=now),
        meta=principal.meta(),
    )
