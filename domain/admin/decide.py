"""What counts as a reason, and where the staff's work is told."""

from __future__ import annotations

from uuid import UUID

from domain.kernel import Stream
from domain.organizations.state import InvalidFieldError

REASON_CHARS_MIN = 3
REASON_CHARS_MAX = 500


def admin_stream(user_id: UUID) -> Stream:
    """The work of one member of the staff; it exists in each organization they looked into, and under `PLATFORM`."""
    return Stream("Admin", str(user_id))


def checked_reason(text: str | None, *, needed: bool) -> str | None:
    """The reason, trimmed; None where none was given and none is needed.

    Raises:
        InvalidFieldError: it is missing, too short to say anything, too long or not printable.
    """
    reason = (text or "").strip()
    if not reason and not needed:
        return None
    if not REASON_CHARS_MIN <= len(reason) <= REASON_CHARS_MAX or not reason.isprintable():
        message = (
            f"say why, in {REASON_CHARS_MIN} to {REASON_CHARS_MAX} printable characters: header X-Reason or field reason; "
            "those concerned can read it"
        )
        raise InvalidFieldError(message, field="X-Reason")
    return reason
