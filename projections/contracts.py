"""The discounts an organization has agreed with vendors."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.contracts.decide import Discount
from domain.contracts.events import ContractDiscountRemoved, ContractDiscountSet
from eventstore.database import Connection
from eventstore.port import Recorded
from projections.base import Key, Projection, Rows, Table


class DiscountRow(msgspec.Struct):
    """One discount.  `removed_at`: it was entered by mistake and never held."""

    org_id: UUID
    discount_id: UUID
    pattern: str
    basis_points: int
    valid_from: date
    valid_until: date | None
    set_at: datetime
    removed_at: datetime | None = None


DISCOUNTS = Table("contract_discount", DiscountRow, ("org_id", "discount_id"))
DDL = """
CREATE TABLE crewkit.contract_discount__g{g} (
    org_id uuid NOT NULL,
    discount_id uuid NOT NULL,
    pattern text NOT NULL,
    basis_points bigint NOT NULL,
    valid_from date NOT NULL,
    valid_until date,
    set_at timestamptz NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (org_id, discount_id)
);
"""
_LIST = """
SELECT discount_id, pattern, basis_points, valid_from, valid_until FROM crewkit.contract_discount
 WHERE org_id = $1 AND removed_at IS NULL ORDER BY valid_from, pattern, discount_id
"""


def touches(recorded: Recorded) -> Iterable[tuple[Table[Any], Key]]:
    """The one row an event is about."""
    event = recorded.event
    if isinstance(event, ContractDiscountSet | ContractDiscountRemoved):
        return ((DISCOUNTS, (recorded.org_id, event.discount_id)),)
    return ()


def fold(rows: Rows, recorded: Recorded) -> None:
    """Apply one event; twice changes nothing."""
    event = recorded.event
    if isinstance(event, ContractDiscountSet):
        rows.put(
            DISCOUNTS,
            DiscountRow(
                recorded.org_id,
                event.discount_id,
                event.pattern,
                event.basis_points,
                event.valid_from,
                event.valid_until,
                event.set_at,
            ),
        )
    elif isinstance(event, ContractDiscountRemoved):
        row = rows.get(DISCOUNTS, (recorded.org_id, event.discount_id))
        if row is not None:
            row.removed_at = event.removed_at
            rows.put(DISCOUNTS, row)


PROJECTION = Projection(
    "contracts",
    1,
    tables=(DISCOUNTS,),
    ddl=DDL,
    touches=touches,
    fold=fold,
    reads=(ContractDiscountSet, ContractDiscountRemoved),
)


async def discounts(connection: Connection, org_id: UUID) -> list[Discount]:
    """The discounts that hold, held or will hold, by their first day."""
    return [Discount(*record) for record in await connection.fetch(_LIST, org_id)]
