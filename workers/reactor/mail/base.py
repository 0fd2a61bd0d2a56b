"""What a mailer is, and the reaction made of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from commands.mail import record_failed, record_sent, was_sent
from domain.kernel import Event, Sealed
from domain.mail.decide import email_id
from domain.mail.events import EmailFailed, EmailSent
from eventstore.port import Recorded
from eventstore.settings import public_url
from workers.reactor.base import DAY_S, Done, GiveUpError, On, Reaction, Result, Skipped, Tools
from workers.reactor.mail.leave import deliver
from workers.reactor.mail.letters import Wording
from workers.reactor.mail.write import AddressError, compose, render

LANE = "mail"
LANE_MAX = 4
TRIES_MAX = 12  # over about an hour


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """What an event asks to be mailed.

    `link` is a path below the public address, `{token}` in it the opened `token`.  `values` are the words of the wording:
    sealed ones are opened, `expires_at` becomes `expires`.  After `expires_at` the mail is of no use.
    """

    to: Sealed
    wording: Wording
    link: str | None = None
    token: Sealed | None = None
    values: dict[str, Sealed | str | None] = {}
    expires_at: datetime | None = None


class Mailer(msgspec.Struct, frozen=True, kw_only=True):
    """Events of class `on` cause the mail that `letter` answers; None: this one causes none.  `kind` is stored: it stays.

    Where the event itself does not tell enough, `find` looks further, and answers the same.
    """

    kind: str
    on: type[Event]
    letter: Callable[[Any], Letter | None] = lambda _: None
    find: Callable[[Tools, Recorded], Awaitable[Letter | None]] | None = None
    valid_s: float = DAY_S


def reaction_of(mailer: Mailer) -> Reaction:
    """The reaction that sends a mailer's mail."""

    async def run(tools: Tools, recorded: Recorded) -> Result:
        return await _send(tools, recorded, mailer)

    async def given_up(tools: Tools, recorded: Recorded, reason: str) -> None:
        failed = EmailFailed(
            email_id=email_id(recorded.event_id, mailer.kind),
            kind=mailer.kind,
            about=recorded.event_id,
            reason=reason,
            failed_at=datetime.now(UTC),
        )
        await record_failed(tools.store, recorded.org_id, failed)

    return Reaction(
        kind=mailer.kind,
        lane=LANE,
        lane_max=LANE_MAX,
        on=(On(mailer.on),),
        run=run,
        given_up=given_up,
        valid_s=mailer.valid_s,
        tries_max=TRIES_MAX,
    )


async def _send(tools: Tools, recorded: Recorded, mailer: Mailer) -> Result:
    """Write and send.  Killed between the server's yes and our note of it, the same message is sent again."""
    letter = await mailer.find(tools, recorded) if mailer.find is not None else mailer.letter(recorded.event)
    if letter is None:
        return Skipped("this event causes no mail")
    if letter.expires_at is not None and letter.expires_at <= datetime.now(UTC):
        return Skipped("the link has expired")
    ident = email_id(recorded.event_id, mailer.kind)
    if await was_sent(tools.store, recorded.org_id, ident):
        return Skipped("it was sent before")
    recipient = await _open(tools, recorded, letter.to)
    token = await _open(tools, recorded, letter.token)
    if recipient is None or (letter.token is not None and token is None):
        return Skipped("the recipient was erased")
    values = {name: await _open(tools, recorded, value) for name, value in letter.values.items()}
    values["expires"] = when(letter.expires_at) if letter.expires_at else None
    place = public_url(tools.settings)
    link = None if letter.link is None else place + letter.link.replace("{token}", quote(token or "", safe=""))
    try:
        message = compose(
            render(letter.wording, values, link, urlsplit(place).netloc),
            email_id=ident,
            sender=tools.settings.mail_from,
            recipient=recipient,
            at=recorded.recorded_at,
        )
    except AddressError as error:
        raise GiveUpError("sender or recipient is not an e-mail address") from error
    others = {value.subject for value in letter.values.values() if isinstance(value, Sealed)} - {letter.to.subject}
    via = await deliver(tools.settings, message, [letter.to.subject, *sorted(others)])
    sent = EmailSent(
        email_id=ident,
        kind=mailer.kind,
        about=recorded.event_id,
        to=Sealed(letter.to.subject, recipient),
        via=via,
        sent_at=datetime.now(UTC),
    )
    await record_sent(tools.store, recorded.org_id, sent)
    return Done()


async def _open(tools: Tools, recorded: Recorded, value: Sealed | str | None) -> str | None:
    if not isinstance(value, Sealed):
        return value
    [text] = await tools.ring.open_many(recorded.org_id, [(recorded.type, value)])
    return text


def when(moment: datetime) -> str:
    """A moment as mails tell it."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
