"""Facts about an organization's contracts with vendors."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from domain.kernel import Event


class ContractDiscountSet(Event, frozen=True, kw_only=True, tag="contract_discount.set.v1"):
    """Calls of the models that `pattern` names cost `basis_points` hundredths of a percent less, from day to day (UTC).

    `pattern` is `vendor/model` with `*` for any text; `valid_until` is the first day without the discount, None: it holds on.
    Setting one again replaces it.
    """

    discount_id: UUID
    pattern: str
    basis_points: int
    valid_from: date
    valid_until: date | None = None
    set_at: datetime


class ContractDiscountRemoved(Event, frozen=True, kw_only=True, tag="contract_discount.removed.v1"):
    """A discount was entered by mistake: it never held."""

    discount_id: UUID
    removed_at: datetime
