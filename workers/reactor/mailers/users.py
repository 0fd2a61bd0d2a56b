"""Mail about accounts: confirming an address, and a warning when an account was used from an unknown device."""

from __future__ import annotations

from domain.users.events import NewDeviceLogin, UserRegistered
from workers.reactor.mail.base import Letter, Mailer, when
from workers.reactor.mail.letters import EMAIL_VERIFICATION, NEW_DEVICE

VERIFICATION_PAGE = "/login/verify?token={token}"
FORGOTTEN_PAGE = "/login/forgot"
METHODS = {"password": "password", "magic_link": "a link by mail", "passkey": "a passkey", "device": "a device code"}


def verification(event: UserRegistered) -> Letter | None:
    """Asks the owner of the address to confirm it, where the registration made a token for that."""
    if event.token is None:
        return None
    return Letter(
        to=event.email,
        wording=EMAIL_VERIFICATION,
        link=VERIFICATION_PAGE,
        token=event.token,
        values={"name": event.name},
        expires_at=event.token_expires_at,
    )


def new_device(event: NewDeviceLogin) -> Letter:
    """Tells what is known about the sign-in."""
    return Letter(
        to=event.email,
        wording=NEW_DEVICE,
        link=FORGOTTEN_PAGE,
        values={
            "when": when(event.logged_in_at),
            "method": METHODS.get(event.method, event.method),
            "ip": event.ip,
            "user_agent": event.user_agent,
        },
    )


VERIFICATIONS = Mailer(kind="mail.email_verification", on=UserRegistered, letter=verification)
NEW_DEVICES = Mailer(kind="mail.new_device", on=NewDeviceLogin, letter=new_device)
