"""Mail about belonging to an organization: the address is that of the account, and nobody is told of their own doing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.invitations.decide import invitation_stream
from domain.invitations.events import InvitationAccepted, InvitationCreated
from domain.kernel import PLATFORM, Event, Sealed, Stream
from domain.organizations.events import MemberRemoved, MemberRoleChanged, OrganizationCreated, SubjectShredded
from domain.organizations.state import organization_stream
from domain.users.events import UserDeleted, UserEmailVerified, UserRegistered
from domain.users.state import user_stream
from eventstore.port import Append, Meta, NewEvent, Recorded
from eventstore.settings import Settings
from tests.workers.smtp import post_office
from tests.workers.tally import running
from tests.workers.test_mail import MAILS, NOW, Desk, desk, quick, settings, smtp
from workers.reactor import run_reactor
from workers.reactor.reactions import erasure

__all__ = ["desk", "quick", "settings"]  # fixtures
pytestmark = pytest.mark.integration
ORG = uuid4()


async def told(desk: Desk, event: Event, stream: Stream, org: UUID = ORG, actor: str = "user:somebody") -> Recorded:
    meta = Meta(actor=actor)
    await desk.store.append(Append(org_id=org, stream=stream, events=[NewEvent(event)], facts=True, meta=meta))
    return (await desk.store.read_stream(org, stream))[-1]


async def account(desk: Desk, address: str) -> UUID:
    user = uuid4()
    registered = UserRegistered(user_id=user, email=Sealed(user, address), email_key=address, registered_at=NOW)
    await told(desk, registered, user_stream(user), PLATFORM)
    return user


async def organization(desk: Desk, owner: UUID) -> Stream:
    stream = organization_stream(ORG)
    founded = OrganizationCreated(organization_id=ORG, slug="acme", name="Acme", owner_id=owner, created_at=NOW)
    await told(desk, founded, stream)
    return stream


def another_role(user: UUID) -> MemberRoleChanged:
    return MemberRoleChanged(
        user_id=user,
        permission="admin",
        org_role="senior",
        permission_before="viewer",
        org_role_before="junior",
        changed_at=NOW,
    )


def invitation(digit: str, sender: UUID, invited: UUID) -> InvitationCreated:
    """One whose time is over: nobody is mailed."""
    return InvitationCreated(
        invitation_id=digit * 64,
        permission="developer",
        org_role="junior",
        organization_name="Acme",
        email=Sealed(invited, "grace@example.com"),
        token=Sealed(invited, "secret"),
        invited_by=sender,
        created_at=NOW,
        expires_at=NOW - timedelta(days=1),
    )


async def test_members_are_told_what_others_did_about_them(desk: Desk, settings: Settings) -> None:
    ada, grace = await account(desk, "ada@example.com"), await account(desk, "grace@example.com")
    stream = await organization(desk, ada)
    async with post_office() as office, running(run_reactor(smtp(settings, office.port), wanted=MAILS)):
        await desk.over(await told(desk, another_role(grace), stream))
        await desk.over(await told(desk, MemberRemoved(user_id=grace, removed_at=NOW), stream))
        invited = invitation("1", ada, grace)
        place = invitation_stream("1" * 64)
        await desk.over(await told(desk, invited, place), "skipped")
        await desk.over(
            await told(desk, InvitationAccepted(invitation_id="1" * 64, user_id=grace, accepted_at=NOW), place)
        )
        verified = UserEmailVerified(user_id=grace, by="registration", verified_at=NOW)
        await desk.over(await told(desk, verified, user_stream(grace), PLATFORM))
    assert [(to, mail["Subject"]) for (_, to), mail in zip(office.envelopes, office.arrived, strict=True)] == [
        (["grace@example.com"], "Your role in Acme changed"),
        (["grace@example.com"], "You no longer belong to Acme"),
        (["ada@example.com"], "Your invitation to Acme was accepted"),
        (["grace@example.com"], "Welcome to crewkit"),
    ]
    body = office.arrived[0].get_body(("plain",))
    assert body is not None
    assert "Permission: admin (before: viewer)" in body.get_content()


async def test_an_erasure_also_removes_files_that_tell_others_of_the_person(
    desk: Desk, settings: Settings, tmp_path: Path
) -> None:
    ada, grace = await account(desk, "ada@example.com"), await account(desk, "grace@example.com")
    stream = await organization(desk, ada)
    made = invitation("2", ada, grace)
    place = invitation_stream("2" * 64)
    async with running(run_reactor(settings, wanted=[*MAILS, erasure.REACTION])):
        await told(desk, made, place)
        accepted = InvitationAccepted(invitation_id="2" * 64, user_id=grace, accepted_at=NOW)
        await desk.over(await told(desk, accepted, place))
        await desk.over(await told(desk, another_role(ada), stream))
        assert sum("grace@example.com" in file.read_text() for file in (tmp_path / "mail").iterdir()) == 1
        gone = SubjectShredded(person_id=grace, shredded_at=NOW)
        await desk.over(await told(desk, gone, Stream("Person", str(grace)), PLATFORM))
    [left] = (tmp_path / "mail").iterdir()
    assert "Your role in Acme changed" in left.read_text()


async def test_nobody_is_told_of_their_own_doing_or_without_an_account_in_use(desk: Desk, settings: Settings) -> None:
    users = [await account(desk, f"{name}@example.com") for name in ("ada", "gone", "dark")]
    stream = await organization(desk, users[0])
    await told(desk, UserDeleted(user_id=users[1], deleted_at=NOW), user_stream(users[1]), PLATFORM)
    await desk.ring.destroy(PLATFORM, users[2])
    async with post_office() as office, running(run_reactor(smtp(settings, office.port), wanted=MAILS)):
        leaves = MemberRemoved(user_id=users[0], removed_at=NOW)
        await desk.over(await told(desk, leaves, stream, actor=f"user:{users[0]}"), "skipped")
        for user in (*users[1:], uuid4()):
            skipped = await told(desk, another_role(user), stream)
            assert await desk.over(skipped, "skipped") == (1, "this event causes no mail")
        later = UserEmailVerified(user_id=users[0], by="magic_link", verified_at=NOW)
        await desk.over(await told(desk, later, user_stream(users[0]), PLATFORM), "skipped")
    assert office.arrived == []
