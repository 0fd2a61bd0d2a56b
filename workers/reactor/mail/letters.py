"""What a mail says.  One source for both parts of it, so that text and HTML cannot differ in meaning.

Every string is a Jinja template over the letter's values.  `button` stands above the link; None: the mail has no link.
"""

from __future__ import annotations

import msgspec


class Wording(msgspec.Struct, frozen=True, kw_only=True):
    """`preheader` is what mail programs show beside the subject; `before` and `after` are paragraphs around the link."""

    subject: str
    preheader: str
    heading: str
    before: tuple[str, ...]
    button: str | None = None
    after: tuple[str, ...] = ()


MAGIC_LINK = Wording(
    subject="Sign in to crewkit",
    preheader="Your sign-in link. It works once{% if expires %}, until {{ expires }}{% endif %}.",
    heading="Sign in to crewkit",
    before=("Somebody, most likely you, asked for a link to sign in to crewkit with this address.",),
    button="Sign in",
    after=(
        "The link works once{% if expires %} and until {{ expires }}{% endif %}.",
        "If it was not you, do nothing: without the link nobody gets in.",
    ),
)

PASSWORD_RESET = Wording(
    subject="Set a new crewkit password",
    preheader="The link to set a new password. It works once{% if expires %}, until {{ expires }}{% endif %}.",
    heading="Set a new password",
    before=("Somebody, most likely you, asked to set a new password for this address.",),
    button="Set a new password",
    after=(
        "The link works once{% if expires %} and until {{ expires }}{% endif %}. Setting a new password signs you out everywhere.",
        "If it was not you, do nothing: your password stays as it is.",
    ),
)

EMAIL_VERIFICATION = Wording(
    subject="Confirm your e-mail address",
    preheader="One step left: confirm that this address is yours.",
    heading="Welcome to crewkit{% if name %}, {{ name }}{% endif %}",
    before=("An account was made with this address. Confirm that the address is yours, and you are in.",),
    button="Confirm this address",
    after=("{% if expires %}The link works until {{ expires }}. {% endif %}If it was not you, do nothing.",),
)

NEW_DEVICE = Wording(
    subject="New sign-in to your crewkit account",
    preheader="Somebody signed in from a device that was not seen before. If that was you, all is well.",
    heading="New sign-in to your account",
    before=(
        "Your account was used from a device or program that was not seen before.",
        "{% if when %}When: {{ when }}{% endif %}",
        "{% if method %}How: {{ method }}{% endif %}",
        "{% if ip %}From: {{ ip }}{% endif %}",
        "{% if user_agent %}With: {{ user_agent }}{% endif %}",
        "If that was you, there is nothing to do. If not, set a new password at once: that signs everybody out.",
    ),
    button="Set a new password",
)

INVITATION = Wording(
    subject="You are invited to {{ organization or 'an organization' }} on crewkit",
    preheader="Join as {{ permission or 'member' }}{% if expires %}, until {{ expires }}{% endif %}.",
    heading="Join {{ organization or 'an organization' }} on crewkit",
    before=(
        "You were invited to {{ organization or 'an organization' }} on crewkit{% if permission %} as {{ permission }}{% endif %}.",
        "crewkit records what AI coding agents do in a team, and how they are set up.",
    ),
    button="Look at the invitation",
    after=(
        "{% if expires %}The invitation is open until {{ expires }}. {% endif %}If you do not expect it, do nothing.",
    ),
)

WELCOME = Wording(
    subject="Welcome to crewkit",
    preheader="Your account is ready. Three commands connect your coding agent.",
    heading="Welcome to crewkit",
    before=(
        "Your account is ready.",
        "On your machine, `crewkit auth login` signs you in, and `crewkit init` connects your coding agent.",
        "What leaves your machine is yours to choose: `crewkit sent` shows every byte of it.",
    ),
    button="Go to your account",
)

INVITATION_ACCEPTED = Wording(
    subject="Your invitation to {{ organization or 'your organization' }} was accepted",
    preheader="{{ who or 'Somebody' }} belongs to {{ organization or 'your organization' }} now.",
    heading="Your invitation was accepted",
    before=(
        "{{ who or 'Somebody' }} accepted your invitation to {{ organization or 'your organization' }}.",
        "{% if permission %}Permission: {{ permission }}{% endif %}",
    ),
)

ROLE_CHANGED = Wording(
    subject="Your role in {{ organization or 'your organization' }} changed",
    preheader="What you may do there, and how agents treat you, may be different now.",
    heading="Your role in {{ organization or 'your organization' }} changed",
    before=(
        "{% if permission %}Permission: {{ permission }} (before: {{ permission_before }}){% endif %}",
        "{% if org_role %}Working role: {{ org_role }} (before: {{ org_role_before }}){% endif %}",
        "If you did not expect this, ask an admin of the organization.",
    ),
)

REMOVED = Wording(
    subject="You no longer belong to {{ organization or 'an organization' }}",
    preheader="Your membership ended. Your account stays.",
    heading="You no longer belong to {{ organization or 'an organization' }}",
    before=(
        "Your membership of {{ organization or 'an organization' }} on crewkit ended.",
        "Your account and your other organizations stay as they are. If you did not expect this, ask an admin.",
    ),
)
