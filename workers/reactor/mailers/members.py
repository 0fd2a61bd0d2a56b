"""Mail about belonging to an organization: an invitation that was accepted, another role, the end of it.

These events name people by id; their address is looked up where they have an account.
"""

from __future__ import annotations

from uuid import UUID

from commands.bus import load
from domain.invitations.decide import invitation_stream
from domain.invitations.events import InvitationAccepted, InvitationCreated
from domain.kernel import PLATFORM, Sealed
from domain.organizations.events import MemberRemoved, MemberRoleChanged
from domain.organizations.state import NO_ORGANIZATION, Organization, evolve_organization, organization_stream
from domain.users import state as users
from domain.users.events import UserEmailVerified
from eventstore.port import Recorded
from workers.reactor.base import Tools
from workers.reactor.mail.base import Letter, Mailer
from workers.reactor.mail.letters import INVITATION_ACCEPTED, REMOVED, ROLE_CHANGED, WELCOME

ACCOUNT_PAGE = "/login"


async def accepted(tools: Tools, recorded: Recorded) -> Letter | None:
    """To who invited: the invited one belongs now."""
    event = recorded.event
    if not isinstance(event, InvitationAccepted):
        return None
    page = await tools.store.read_stream(recorded.org_id, invitation_stream(event.invitation_id), limit=1)
    made = page[0].event if page else None
    if not isinstance(made, InvitationCreated) or made.invited_by is None:
        return None
    to = await _address(tools, made.invited_by)
    if to is None:
        return None
    values: dict[str, Sealed | str | None] = {
        "organization": await _name(tools, recorded.org_id),
        "who": await _address(tools, event.user_id),
        "permission": made.permission,
    }
    return Letter(to=to, wording=INVITATION_ACCEPTED, values=values)


async def role_changed(tools: Tools, recorded: Recorded) -> Letter | None:
    """To the member, unless it was their own doing."""
    event = recorded.event
    if not isinstance(event, MemberRoleChanged) or _own(recorded, event.user_id):
        return None
    to = await _address(tools, event.user_id)
    if to is None:
        return None
    values: dict[str, Sealed | str | None] = {
        "organization": await _name(tools, recorded.org_id),
        "permission": event.permission,
        "permission_before": event.permission_before,
        "org_role": event.org_role,
        "org_role_before": event.org_role_before,
    }
    return Letter(to=to, wording=ROLE_CHANGED, values=values)


async def removed(tools: Tools, recorded: Recorded) -> Letter | None:
    """To who was a member, unless they left by themselves."""
    event = recorded.event
    if not isinstance(event, MemberRemoved) or _own(recorded, event.user_id):
        return None
    to = await _address(tools, event.user_id)
    if to is None:
        return None
    return Letter(to=to, wording=REMOVED, values={"organization": await _name(tools, recorded.org_id)})


async def welcome(tools: Tools, recorded: Recorded) -> Letter | None:
    """To a new user whose address is theirs."""
    event = recorded.event
    if not isinstance(event, UserEmailVerified) or event.by != "registration":
        return None
    to = await _address(tools, event.user_id)
    return None if to is None else Letter(to=to, wording=WELCOME, link=ACCOUNT_PAGE)


def _own(recorded: Recorded, user_id: UUID) -> bool:
    return recorded.meta.actor == f"user:{user_id}"


async def _address(tools: Tools, user_id: UUID) -> Sealed | None:
    """The address of an account that is in use, opened; None where there is none, or its person was erased."""
    state, _, _ = await load(tools.store, PLATFORM, users.user_stream(user_id), users.evolve, users.NOBODY)
    if not isinstance(state, users.User) or state.status == "deleted":
        return None
    [text] = await tools.ring.open_many(PLATFORM, [(state.email.tag, state.email.sealed)])
    return None if text is None else Sealed(user_id, text)


async def _name(tools: Tools, org_id: UUID) -> str | None:
    state, _, _ = await load(tools.store, org_id, organization_stream(org_id), evolve_organization, NO_ORGANIZATION)
    return state.name if isinstance(state, Organization) else None


ACCEPTED = Mailer(kind="mail.invitation_accepted", on=InvitationAccepted, find=accepted)
ROLES_CHANGED = Mailer(kind="mail.role_changed", on=MemberRoleChanged, find=role_changed)
MEMBERS_REMOVED = Mailer(kind="mail.member_removed", on=MemberRemoved, find=removed)
WELCOMES = Mailer(kind="mail.welcome", on=UserEmailVerified, find=welcome)
