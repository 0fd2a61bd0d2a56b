"""Mail of signing in: links that open an account."""

from __future__ import annotations

from domain.signin.events import MagicLinkRequested, PasswordResetRequested
from workers.reactor.mail.base import Letter, Mailer
from workers.reactor.mail.letters import MAGIC_LINK, PASSWORD_RESET

MAGIC_LINK_PAGE = "/login/magic?token={token}"
PASSWORD_RESET_PAGE = "/login/reset?token={token}"  # noqa: S105  a path


def magic_link(event: MagicLinkRequested) -> Letter:
    """The link that signs in."""
    return Letter(
        to=event.email, wording=MAGIC_LINK, link=MAGIC_LINK_PAGE, token=event.token, expires_at=event.expires_at
    )


def password_reset(event: PasswordResetRequested) -> Letter:
    """The link that lets one set a new password."""
    return Letter(
        to=event.email, wording=PASSWORD_RESET, link=PASSWORD_RESET_PAGE, token=event.token, expires_at=event.expires_at
    )


MAGIC_LINKS = Mailer(kind="mail.magic_link", on=MagicLinkRequested, letter=magic_link)
PASSWORD_RESETS = Mailer(kind="mail.password_reset", on=PasswordResetRequested, letter=password_reset)
