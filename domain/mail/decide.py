"""A mail is sent once; one that was given up may still be sent when somebody tries again."""

from __future__ import annotations

from typing import TypeAlias
from uuid import UUID, uuid5

import msgspec

from domain.kernel import Event, Stream
from domain.mail.events import EmailFailed, EmailSent


class Absent(msgspec.Struct, frozen=True):
    """Nothing is known to have been handed over."""


class Failed(msgspec.Struct, frozen=True):
    """It was given up."""


class Sent(msgspec.Struct, frozen=True):
    """It was handed over."""


Mail: TypeAlias = Absent | Failed | Sent
INITIAL: Mail = Absent()


def email_id(about: UUID, kind: str) -> UUID:
    """One event causes at most one mail of a kind: whoever computes its id gets the same one."""
    return uuid5(about, kind)


def mail_stream(ident: UUID) -> Stream:
    """Where the facts of one mail live."""
    return Stream("EmailMessage", str(ident))


def evolve(mail: Mail, event: Event) -> Mail:
    """Apply one fact; facts of other kinds change nothing."""
    match event:
        case EmailSent():
            return Sent()
        case EmailFailed():
            return mail if isinstance(mail, Sent) else Failed()
        case _:
            return mail


def send(mail: Mail, sent: EmailSent) -> list[EmailSent]:
    """Note that it was handed over, once."""
    return [] if isinstance(mail, Sent) else [sent]


def fail(mail: Mail, failed: EmailFailed) -> list[EmailFailed]:
    """Note that it was given up, once in a row; what was sent did not fail."""
    return [failed] if isinstance(mail, Absent) else []
