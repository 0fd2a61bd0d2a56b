"""Bodies and answers of discounts."""

from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta


class DiscountBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`basis_points` are hundredths of a percent: 1250 is 12.5 %.  `valid_until` is the first day without the discount."""

    pattern: Annotated[str, Meta(max_length=100, description="vendor/model with * for any text, such as anthropic/*")]
    basis_points: Annotated[int, Meta(ge=1, le=10_000)]
    valid_from: date
    valid_until: date | None = None


class DiscountView(msgspec.Struct, frozen=True, kw_only=True):
    """One discount."""

    discount_id: UUID
    pattern: str
    basis_points: int
    valid_from: date
    valid_until: date | None
    links: dict[str, str] = msgspec.field(name="_links")


class DiscountList(msgspec.Struct, frozen=True, kw_only=True):
    """By their first day."""

    items: list[DiscountView]
    links: dict[str, str] = msgspec.field(name="_links")
