"""Keep what became of mail."""

from __future__ import annotations

from uuid import UUID

from commands.bus import transact
from domain.mail import decide
from domain.mail.events import EmailFailed, EmailSent
from eventstore.port import EventStore, Meta, Outcome


async def record_sent(store: EventStore, org_id: UUID, sent: EmailSent) -> Outcome | None:
    """Append it; None where it was noted already.

    Raises:
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        org_id,
        decide.mail_stream(sent.email_id),
        decide.evolve,
        decide.INITIAL,
        lambda mail: decide.send(mail, sent),
        meta=_meta(sent.about),
    )


async def record_failed(store: EventStore, org_id: UUID, failed: EmailFailed) -> Outcome | None:
    """Append it; None where it was noted already, or was sent.

    Raises:
        StreamMovedError: others kept changing it.
    """
    return await transact(
        store,
        org_id,
        decide.mail_stream(failed.email_id),
        decide.evolve,
        decide.INITIAL,
        lambda mail: decide.fail(mail, failed),
        meta=_meta(failed.about),
    )


async def was_sent(store: EventStore, org_id: UUID, email_id: UUID) -> bool:
    """Whether the store knows that it was handed over."""
    found = await store.read_stream(org_id, decide.mail_stream(email_id), limit=1, newest_first=True)
    return bool(found) and isinstance(found[0].event, EmailSent)


def _meta(about: UUID) -> Meta:
    return Meta(actor="system:reactor", causation_id=about)
