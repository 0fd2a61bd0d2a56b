"""The tables of users and their sign-ins.  `org_id` is `PLATFORM` in every row."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from projections.base import Table


class UserRow(msgspec.Struct):
    """One account.  Boxes are ciphertext; a tag is the type of the event that holds the box."""

    user_id: UUID
    org_id: UUID
    status: str
    email_key: str | None
    email_box: str | None
    name_box: str | None
    name_tag: str | None
    verified: bool
    completed: bool
    has_password: bool
    platform_role: str
    locale: str | None
    timezone: str | None
    registered_at: datetime
    last_login_at: datetime | None = None
    signed_out_at: datetime | None = None


class PasskeyRow(msgspec.Struct):
    """One authenticator."""

    passkey_id: UUID
    org_id: UUID
    user_id: UUID
    credential_id: str
    transports: str
    name_box: str | None
    registered_at: datetime
    last_used_at: datetime | None = None
    removed_at: datetime | None = None


class FamilyRow(msgspec.Struct):
    """One login and whether it goes on."""

    family_id: UUID
    org_id: UUID
    user_id: UUID
    method: str
    opened_at: datetime
    expires_at: datetime
    refreshed_at: datetime | None = None
    revoked_at: datetime | None = None
    reason: str | None = None


class DeniedRow(msgspec.Struct):
    """One access token that is refused although it has not expired."""

    jti: UUID
    org_id: UUID
    expires_at: datetime


class LoginRow(msgspec.Struct):
    """One login or refused login, as the user may see it."""

    event_id: UUID
    org_id: UUID
    user_id: UUID
    at: datetime
    method: str
    outcome: str
    reason: str | None
    family_id: UUID | None
    ip_box: str | None
    user_agent_box: str | None


class DeviceRow(msgspec.Struct):
    """One device authorization.  `status`: pending, approved, denied, claimed or expired."""

    device_id: str
    org_id: UUID
    user_code_key: str
    client: str
    status: str
    started_at: datetime
    expires_at: datetime


USERS = Table("user_account", UserRow, ("user_id",))
PASSKEYS = Table("passkey", PasskeyRow, ("passkey_id",))
FAMILIES = Table("token_family", FamilyRow, ("family_id",))
DENIED = Table("denied_token", DeniedRow, ("jti",))
LOGINS = Table("login_activity", LoginRow, ("event_id",))
DEVICES = Table("device_authorization", DeviceRow, ("device_id",))

DDL = """
CREATE TABLE crewkit.user_account__g{g} (
    user_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    status text NOT NULL,
    email_key text,
    email_box text,
    name_box text,
    name_tag text,
    verified boolean NOT NULL,
    completed boolean NOT NULL,
    has_password boolean NOT NULL,
    platform_role text NOT NULL,
    locale text,
    timezone text,
    registered_at timestamptz NOT NULL,
    last_login_at timestamptz,
    signed_out_at timestamptz
);
CREATE INDEX user_account__g{g}_email ON crewkit.user_account__g{g} (email_key) WHERE email_key IS NOT NULL;
CREATE TABLE crewkit.passkey__g{g} (
    passkey_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    credential_id text NOT NULL,
    transports text NOT NULL,
    name_box text,
    registered_at timestamptz NOT NULL,
    last_used_at timestamptz,
    removed_at timestamptz
);
CREATE INDEX passkey__g{g}_user ON crewkit.passkey__g{g} (user_id);
CREATE TABLE crewkit.token_family__g{g} (
    family_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    method text NOT NULL,
    opened_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    refreshed_at timestamptz,
    revoked_at timestamptz,
    reason text
);
CREATE TABLE crewkit.denied_token__g{g} (
    jti uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE TABLE crewkit.login_activity__g{g} (
    event_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    at timestamptz NOT NULL,
    method text NOT NULL,
    outcome text NOT NULL,
    reason text,
    family_id uuid,
    ip_box text,
    user_agent_box text
);
CREATE INDEX login_activity__g{g}_user ON crewkit.login_activity__g{g} (user_id, at DESC);
CREATE TABLE crewkit.device_authorization__g{g} (
    device_id text PRIMARY KEY,
    org_id uuid NOT NULL,
    user_code_key text NOT NULL,
    client text NOT NULL,
    status text NOT NULL,
    started_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX device_authorization__g{g}_code ON crewkit.device_authorization__g{g} (user_code_key);
CREATE INDEX device_authorization__g{g}_due ON crewkit.device_authorization__g{g} (expires_at)
    WHERE status IN ('pending', 'approved');
"""

# Erasing a person takes the lines about where they signed in from; their boxes cannot be opened any more anyway.
ERASE = """
UPDATE crewkit.login_activity__g{g} SET ip_box = NULL, user_agent_box = NULL WHERE org_id = $1 AND user_id = $2;
"""
