"""Mail that follows from events, through a real SMTP server on loopback or into files, noted once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from domain.invitations.events import InvitationCreated, InvitationResent
from domain.kernel import PLATFORM, Event, Sealed, Stream
from domain.mail.decide import email_id
from domain.mail.events import EmailFailed, EmailSent
from domain.organizations.events import SubjectShredded
from domain.signin.events import MagicLinkRequested, PasswordResetRequested
from domain.users.events import NewDeviceLogin, UserRegistered
from eventstore.database import WORKER_ROLE, connect_pool
from eventstore.mapper import Mapper
from eventstore.port import Append, NewEvent, Recorded
from eventstore.postgres import PostgresStore
from eventstore.sealing import PostgresKeyRing, load_or_create_master_key
from eventstore.settings import Settings
from tests.workers.smtp import PASSWORD, USER, certificate, post_office
from tests.workers.tally import running, until
from workers.reactor import found_reactions, host, retry, run_reactor
from workers.reactor.reactions import erasure

pytestmark = pytest.mark.integration
ADDRESS = "ada@example.com"
TOKEN = "one-time/secret+token"
NOW = datetime.now(UTC)
MAILS = [reaction for reaction in found_reactions() if reaction.lane == "mail"]


class Desk:
    """A store to tell events to, and what became of their mail."""

    def __init__(self, store: PostgresStore, ring: PostgresKeyRing) -> None:
        self.store = store
        self.ring = ring

    async def tell(self, event: Event, stream: str = "MagicLink") -> Recorded:
        """Append; the event as recorded."""
        place = Stream(stream, uuid4().hex)
        await self.store.append(Append(org_id=PLATFORM, stream=place, events=[NewEvent(event)], facts=True))
        return (await self.store.read_stream(PLATFORM, place))[-1]

    async def notes(self, recorded: Recorded, kind: str = "mail.magic_link") -> list[Event]:
        found = await self.store.read_stream(PLATFORM, Stream("EmailMessage", str(email_id(recorded.event_id, kind))))
        return [one.event for one in found]

    async def over(self, recorded: Recorded, state: str = "done") -> tuple[int, str | None]:
        """Wait until the mail about an event is in a state; tries and remark."""

        async def holds() -> bool:
            return state == await self.store.pool.fetchval(
                "SELECT state FROM crewkit.reaction WHERE event_id = $1", recorded.event_id
            )

        await until(holds)
        row = await self.store.pool.fetchrow(
            "SELECT tries, remark FROM crewkit.reaction WHERE event_id = $1", recorded.event_id
        )
        assert row is not None
        return row["tries"], row["remark"]


def magic_link(user: UUID, *, address: str = ADDRESS, minutes: float = 15) -> MagicLinkRequested:
    return MagicLinkRequested(
        link_id="0" * 64,
        user_id=user,
        email=Sealed(user, address),
        token=Sealed(user, TOKEN),
        requested_at=NOW,
        expires_at=datetime.now(UTC) + timedelta(minutes=minutes),
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "POLL_S", 0.02)
    monkeypatch.setattr(host, "RETRY_FIRST_S", 0.01)


@pytest.fixture
def settings(postgres_url: str, master_key_file: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url,
        nats_url="nats://127.0.0.1:9",
        key_file=str(master_key_file),
        data_dir=str(tmp_path),
        public_url="https://crewkit.example.com/",
        mail_from="crewkit <no-reply@example.com>",
    )


@pytest.fixture
async def desk(postgres_url: str, master_key_file: Path) -> AsyncIterator[Desk]:
    pool = await connect_pool(postgres_url, WORKER_ROLE, max_size=2)
    ring = PostgresKeyRing(pool, load_or_create_master_key(master_key_file))
    store = PostgresStore(postgres_url, Mapper(ring), role=WORKER_ROLE, pool=pool)
    await store.start()
    yield Desk(store, ring)
    await store.close()
    await pool.close()


def smtp(settings: Settings, port: int, **changes: Any) -> Settings:
    fields = {"smtp_host": "localhost", "smtp_port": port, "smtp_security": "none"} | changes
    return msgspec.structs.replace(settings, **fields)


async def test_a_link_is_mailed_and_noted_without_telling_the_address(desk: Desk, settings: Settings) -> None:
    async with post_office() as office, running(run_reactor(smtp(settings, office.port), wanted=MAILS)):
        told = await desk.tell(magic_link(uuid4()))
        await desk.over(told)
    [mail] = office.arrived
    assert office.envelopes == [("no-reply@example.com", [ADDRESS])]
    assert mail["Message-ID"] == f"<{email_id(told.event_id, 'mail.magic_link')}@example.com>"
    assert mail["Subject"] == "Sign in to crewkit"
    for kind in ("plain", "html"):
        part = mail.get_body((kind,))
        assert part is not None
        assert "https://crewkit.example.com/login/magic?token=one-time%2Fsecret%2Btoken" in part.get_content()
    [note] = await desk.notes(told)
    assert isinstance(note, EmailSent)
    assert (note.via, note.about, note.kind) == ("smtp", told.event_id, "mail.magic_link")
    assert await desk.ring.open_many(PLATFORM, [("email.sent.v1", note.to)]) == [ADDRESS]
    stored = await desk.store.pool.fetchval("SELECT string_agg(data::text || meta::text, '') FROM crewkit.event")
    reaction = await desk.store.pool.fetchval("SELECT string_agg(r::text, '') FROM crewkit.reaction r")
    for secret in (ADDRESS, TOKEN):
        assert secret not in stored + reaction


async def test_every_mailed_event_becomes_its_letter(desk: Desk, settings: Settings) -> None:
    user = uuid4()
    email, token = Sealed(user, ADDRESS), Sealed(user, TOKEN)
    soon = datetime.now(UTC) + timedelta(hours=1)
    events: list[tuple[Event, str]] = [
        (
            PasswordResetRequested(
                reset_id="0", user_id=user, email=email, token=token, requested_at=NOW, expires_at=soon
            ),
            "Set a new crewkit password",
        ),
        (
            UserRegistered(
                user_id=user,
                email=email,
                email_key="k",
                name=Sealed(user, "Ada"),
                token=token,
                token_sha256="0",
                token_expires_at=soon,
                registered_at=NOW,
            ),
            "Confirm your e-mail address",
        ),
        (
            InvitationCreated(
                invitation_id="0",
                permission="developer",
                org_role="junior",
                organization_name="Acme",
                email=email,
                token=token,
                created_at=NOW,
                expires_at=soon,
            ),
            "You are invited to Acme on crewkit",
        ),
        (
            InvitationResent(
                invitation_id="0",
                token_sha256="1",
                permission="developer",
                organization_name="Acme",
                email=email,
                token=token,
                resent_at=NOW,
                expires_at=soon,
            ),
            "You are invited to Acme on crewkit",
        ),
        (
            NewDeviceLogin(
                user_id=user,
                email=email,
                method="passkey",
                device="d",
                ip=Sealed(user, "192.0.2.7"),
                user_agent=Sealed(user, "Firefox"),
                logged_in_at=NOW,
            ),
            "New sign-in to your crewkit account",
        ),
    ]
    async with post_office() as office, running(run_reactor(smtp(settings, office.port), wanted=MAILS)):
        for event, _ in events:
            await desk.over(await desk.tell(event))
        silent = await desk.tell(UserRegistered(user_id=user, email=email, email_key="k", registered_at=NOW), "User")
        assert await desk.over(silent, "skipped") == (1, "this event causes no mail")
    assert [mail["Subject"] for mail in office.arrived] == [subject for _, subject in events]
    last = office.arrived[-1].get_body(("plain",))
    assert last is not None
    for word in ("a passkey", "192.0.2.7", "Firefox"):
        assert word in last.get_content()


async def test_a_server_that_is_busy_or_cuts_the_line_gets_the_same_mail_again(desk: Desk, settings: Settings) -> None:
    async with post_office() as office, running(run_reactor(smtp(settings, office.port), wanted=MAILS)):
        office.recipient = ["450 4.2.1 ada@example.com is busy"]
        office.content = ["451 4.3.0 try later"]
        office.drops = 2
        told = await desk.tell(magic_link(uuid4()))
        assert (await desk.over(told))[0] == 5
    assert len(office.arrived) == 1
    assert [type(note) for note in await desk.notes(told)] == [EmailSent]


async def test_a_refused_mail_is_given_up_visibly_and_may_be_tried_again(desk: Desk, settings: Settings) -> None:
    used = smtp(settings, 0)
    async with post_office() as office:
        used = smtp(settings, office.port)
        async with running(run_reactor(used, wanted=MAILS)):
            office.recipient = ["550 5.1.1 no such user ada@example.com"]
            told = await desk.tell(magic_link(uuid4()))
            reason = "the mail server refused the recipient 550 (5.1.1)"
            assert await desk.over(told, "dead") == (1, reason)
            [failed] = await desk.notes(told)
            assert isinstance(failed, EmailFailed)
            assert failed.reason == reason
            assert await retry(used, "mail.magic_link", told.event_id) == 1
            await desk.over(told)
    assert len(office.arrived) == 1
    assert [type(note) for note in await desk.notes(told)] == [EmailFailed, EmailSent]


async def test_a_server_that_is_away_is_tried_again(desk: Desk, settings: Settings) -> None:
    async with post_office() as office:
        port = office.port
    used = smtp(settings, port)
    async with running(run_reactor(used, wanted=MAILS)):
        told = await desk.tell(magic_link(uuid4()))

        async def refused() -> bool:
            row = await desk.store.pool.fetchrow("SELECT state, remark FROM crewkit.reaction")
            return row is not None and str(row["remark"]).startswith("the mail server cannot be reached")

        await until(refused)
    assert await desk.notes(told) == []


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "tls"])
async def test_the_line_is_encrypted_and_the_login_told_only_on_it(
    desk: Desk, settings: Settings, tmp_path: Path, implicit: bool
) -> None:
    context, trusted = certificate(tmp_path)
    # The library behind the server offers a login after STARTTLS only.
    login = {} if implicit else {"smtp_user": USER, "smtp_password": PASSWORD}
    async with post_office(tls=context, implicit=implicit, login=not implicit) as office:
        security = "tls" if implicit else "starttls"
        used = smtp(settings, office.port, smtp_security=security, smtp_ca_file=trusted, **login)
        async with running(run_reactor(used, wanted=MAILS)):
            told = await desk.tell(magic_link(uuid4()))
            await desk.over(told)
    assert len(office.arrived) == 1


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({}, "SSLCertVerificationError"),
        ({"smtp_password": "wrong", "trust": True}, "the mail server refused our login (535)"),
    ],
    ids=["unknown certificate", "wrong password"],
)
async def test_a_stranger_and_a_wrong_login_get_no_mail_and_it_waits(
    desk: Desk, settings: Settings, tmp_path: Path, changes: dict[str, Any], remark: str
) -> None:
    context, trusted = certificate(tmp_path)
    async with post_office(tls=context, login=True) as office:
        fields = {"smtp_user": USER, "smtp_password": PASSWORD} | changes
        if fields.pop("trust", False):
            fields["smtp_ca_file"] = trusted
        used = smtp(settings, office.port, smtp_security="starttls", **fields)
        async with running(run_reactor(used, wanted=MAILS)):
            await desk.tell(magic_link(uuid4()))

            async def noted() -> bool:
                return bool(await desk.store.pool.fetchval("SELECT remark FROM crewkit.reaction"))

            await until(noted)
            row = await desk.store.pool.fetchrow("SELECT state, remark FROM crewkit.reaction")
    assert row is not None
    assert row["state"] == "waiting"
    assert remark in row["remark"]
    assert office.arrived == []


async def test_a_server_without_encryption_gets_no_mail(desk: Desk, settings: Settings) -> None:
    async with post_office() as office:
        used = smtp(settings, office.port, smtp_security="starttls")
        async with running(run_reactor(used, wanted=MAILS)):
            await desk.tell(magic_link(uuid4()))

            async def noted() -> bool:
                remark = await desk.store.pool.fetchval("SELECT remark FROM crewkit.reaction")
                return "CREWKIT_SMTP_SECURITY" in str(remark)

            await until(noted)
    assert office.arrived == []


async def test_an_expired_link_and_an_erased_recipient_get_no_mail(desk: Desk, settings: Settings) -> None:
    async with post_office() as office, running(run_reactor(smtp(settings, office.port), wanted=MAILS)):
        late = await desk.tell(magic_link(uuid4(), minutes=-1))
        assert await desk.over(late, "skipped") == (1, "the link has expired")
        gone = uuid4()
        await desk.ring.destroy(PLATFORM, gone)
        dark = await desk.tell(magic_link(gone))
        assert await desk.over(dark, "skipped") == (1, "the recipient was erased")
        odd = await desk.tell(magic_link(uuid4(), address="not an address"))
        assert await desk.over(odd, "dead") == (1, "sender or recipient is not an e-mail address")
    assert office.arrived == []


async def test_without_a_server_mails_are_files_only_we_may_read(
    desk: Desk, settings: Settings, tmp_path: Path
) -> None:
    user, other = uuid4(), uuid4()
    async with running(run_reactor(settings, wanted=[*MAILS, erasure.REACTION])):
        told = await desk.tell(magic_link(user))
        await desk.over(told)
        await desk.over(await desk.tell(magic_link(other)))
    path = tmp_path / "mail" / f"{email_id(told.event_id, 'mail.magic_link')}.{user.hex}.eml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert f"To: {ADDRESS}" in path.read_text()
    [note] = await desk.notes(told)
    assert isinstance(note, EmailSent)
    assert note.via == "file"
    async with running(run_reactor(settings, wanted=[erasure.REACTION])):
        gone = await desk.tell(SubjectShredded(person_id=user, shredded_at=NOW), "Person")
        await desk.over(gone)
    assert [file.name.split(".")[1] for file in path.parent.iterdir()] == [other.hex]
