"""Whom a parameter names."""

from __future__ import annotations

from uuid import UUID

from api.errors import ApiError
from api.services import Services
from commands.sessions.facts import person_id_of


def person_named(services: Services, org_id: UUID, user: str | None) -> UUID | None:
    """A person's id, given as such or as an e-mail address (looked up by its keyed hash; addresses are not stored).

    Raises:
        ApiError: 400, it is neither.
    """
    if user is None:
        return None
    if "@" in user:
        return person_id_of(services.person_secret, org_id, user)
    try:
        return UUID(user)
    except ValueError as error:
        message = "user: expected a person's id or e-mail address"
        raise ApiError(400, message, details={"field": "user", "expected": "UUID or e-mail"}) from error
