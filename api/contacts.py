"""What an account says of its user, for the list of members of an organization they join."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request

from api.services import services_of
from domain.kernel import PLATFORM, tag_of
from domain.users.events import UserRegistered
from eventstore.sealing import unboxed
from projections.users import queries

_EMAIL = tag_of(UserRegistered)


async def contact_of(request: Request[Any, Any, Any], user_id: UUID | None) -> tuple[str | None, str | None]:
    """E-mail address and name; None where nobody told them, the read model has not heard, or a key asks."""
    services = services_of(request)
    row = None if user_id is None else await queries.user(services.pool, user_id)
    if row is None:
        return None, None
    boxes = [(_EMAIL, row.email_box), (row.name_tag or "", row.name_box)]
    opened = iter(await services.keyring.open_many(PLATFORM, [(tag, unboxed(box)) for tag, box in boxes if box]))
    email, name = (next(opened) if box else None for _, box in boxes)
    return email, name
