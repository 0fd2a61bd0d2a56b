"""Mail of invitations: the first one, and each one sent again."""

from __future__ import annotations

from domain.invitations.events import InvitationCreated, InvitationResent
from workers.reactor.mail.base import Letter, Mailer
from workers.reactor.mail.letters import INVITATION

INVITATION_PAGE = "/invitation?token={token}"
VALID_S = 30 * 24 * 3600.0  # the invitation's own end comes first


def invitation(event: InvitationCreated | InvitationResent) -> Letter:
    """The token that makes its reader a member."""
    return Letter(
        to=event.email,
        wording=INVITATION,
        link=INVITATION_PAGE,
        token=event.token,
        values={"organization": event.organization_name, "permission": event.permission},
        expires_at=event.expires_at,
    )


INVITATIONS = Mailer(kind="mail.invitation", on=InvitationCreated, letter=invitation, valid_s=VALID_S)
INVITATIONS_AGAIN = Mailer(kind="mail.invitation_again", on=InvitationResent, letter=invitation, valid_s=VALID_S)
