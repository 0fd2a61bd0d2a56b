"""The read model of users: folded purely, twice, and forgetting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from domain.kernel import PLATFORM, Event, Sealed, Stream, tag_of
from domain.organizations.events import SubjectShredded
from domain.signin import devices
from domain.signin.events import DeviceAuthorizationApproved
from domain.tokens import decide as tokens
from domain.users.events import (
    PasskeyRegistered,
    PasskeyRemoved,
    PasskeyUsed,
    UserDeleted,
    UserDisabled,
    UserEmailVerified,
    UserEnabled,
    UserLoggedIn,
    UserLoginFailed,
    UserPasswordChanged,
    UserPlatformRoleChanged,
    UserProfileCompleted,
    UserProfileUpdated,
    UserRegistered,
    UserSignInsEnded,
)
from eventstore.port import Meta, Recorded
from projections.base import Rows
from projections.users import PROJECTION, queries
from projections.users.tables import DENIED, DEVICES, FAMILIES, LOGINS, PASSKEYS, USERS

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
USER, FAMILY, PASSKEY = UUID(int=1), UUID(int=2), UUID(int=3)


def box(text: str) -> Sealed:
    return Sealed(USER, box=text)


REGISTERED = UserRegistered(user_id=USER, email=box("email"), email_key="key", name=box("old"), registered_at=AT)
OPENED = tokens.open_family(
    tokens.NO_FAMILY, family_id=FAMILY, user_id=USER, method="password", refresh_sha256="1", at=AT
)
FAMILY_STATE = tokens.evolve_family(tokens.NO_FAMILY, OPENED[0])
PASSKEY_MADE = PasskeyRegistered(
    user_id=USER,
    passkey_id=PASSKEY,
    credential_id="c",
    public_key="k",
    sign_count=0,
    transports=["usb", "nfc"],
    name=box("token"),
    registered_at=AT,
)
STORY: list[Event] = [
    REGISTERED,
    UserEmailVerified(user_id=USER, by="registration", verified_at=AT),
    UserPasswordChanged(user_id=USER, by="change", password_hash=box("hash"), changed_at=AT),
    UserProfileCompleted(user_id=USER, name=box("new"), locale="en", completed_at=AT),
    UserProfileUpdated(user_id=USER, timezone="UTC", updated_at=AT),
    UserPlatformRoleChanged(user_id=USER, platform_role="crewkit_staff", changed_at=AT),
    UserLoginFailed(user_id=USER, method="password", reason="password", ip=box("ip"), failed_at=AT),
    UserLoggedIn(user_id=USER, method="password", family_id=FAMILY, device="d", logged_in_at=AT),
    *OPENED,
    *tokens.rotate(FAMILY_STATE, presented_sha256="1", next_sha256="2", at=AT + timedelta(hours=1)),
    *tokens.revoke(FAMILY_STATE, reason="logout", at=AT, jti=UUID(int=9), expires_at=AT),
    PASSKEY_MADE,
    PasskeyUsed(user_id=USER, passkey_id=PASSKEY, sign_count=1, used_at=AT),
    *devices.start(devices.NO_DEVICE, device_id="d", user_code_key="k", client="laptop", at=AT),
    DeviceAuthorizationApproved(device_id="d", user_id=USER, approved_at=AT),
    UserSignInsEnded(user_id=USER, reason="disabled", ended_at=AT),
    UserDisabled(user_id=USER, disabled_at=AT),
    UserEnabled(user_id=USER, enabled_at=AT),
]


def recorded(position: int, event: Event, org_id: UUID = PLATFORM) -> Recorded:
    return Recorded(
        position=position,
        org_id=org_id,
        stream_id=uuid4(),
        stream=Stream("X", "1"),
        version=1,
        type=tag_of(type(event)),
        event_id=UUID(int=position),
        recorded_at=AT,
        data=b"{}",
        meta=Meta(),
        event=event,
    )


def folded(*events: Event, times: int = 1, org_id: UUID = PLATFORM) -> Rows:
    rows = Rows()
    for _ in range(times):
        for position, event in enumerate(events, 1):
            one = recorded(position, event, org_id)
            assert org_id != PLATFORM or list(PROJECTION.touches(one)), f"{one.type} touches nothing"
            PROJECTION.fold(rows, one)
    return rows


def test_applying_everything_twice_changes_nothing() -> None:
    one, two = folded(*STORY), folded(*STORY, times=2)
    for table in PROJECTION.tables:
        assert list(one.all(table)) == list(two.all(table))


def test_a_user_as_the_events_told() -> None:
    row = folded(*STORY).get(USERS, (USER,))
    assert row is not None
    assert (row.status, row.verified, row.completed, row.has_password) == ("active", True, True, True)
    assert (row.name_box, row.name_tag) == ("new", "user.profile_completed.v1")
    assert (row.locale, row.timezone, row.platform_role) == ("en", "UTC", "crewkit_staff")
    assert (row.last_login_at, row.signed_out_at) == (AT, AT)


def test_logins_tokens_devices_and_passkeys() -> None:
    rows = folded(*STORY)
    assert [(row.outcome, row.reason) for row in rows.all(LOGINS)] == [("failed", "password"), ("succeeded", None)]
    (family,) = rows.all(FAMILIES)
    assert (family.reason, family.refreshed_at) == ("logout", AT + timedelta(hours=1))
    assert [row.jti for row in rows.all(DENIED)] == [UUID(int=9)]
    assert [row.status for row in rows.all(DEVICES)] == ["approved"]
    (passkey,) = rows.all(PASSKEYS)
    assert (passkey.transports, passkey.last_used_at, passkey.removed_at) == ("usb nfc", AT, None)
    gone = folded(*STORY, PasskeyRemoved(user_id=USER, passkey_id=PASSKEY, removed_at=AT))
    assert next(gone.all(PASSKEYS)).removed_at == AT


def test_a_closed_account_is_found_by_no_address_and_an_erased_one_tells_nothing() -> None:
    closed = folded(*STORY, UserDeleted(user_id=USER, deleted_at=AT)).get(USERS, (USER,))
    assert closed is not None
    assert (closed.status, closed.email_key, closed.has_password) == ("deleted", None, False)
    erased = folded(*STORY, SubjectShredded(person_id=USER, shredded_at=AT)).get(USERS, (USER,))
    assert erased is not None
    assert (erased.email_key, erased.email_box, erased.name_box) == (None, None, None)


def test_what_another_organization_tells_about_users_is_not_believed() -> None:
    rows = folded(*STORY, org_id=uuid4())
    assert all(not list(rows.all(table)) for table in PROJECTION.tables)


def test_a_cursor_reads_back_exactly() -> None:
    rows = folded(*STORY)
    row = next(rows.all(LOGINS))
    row.at = datetime(2026, 11, 25, 12, 0, 0, 123457, tzinfo=UTC)
    assert queries.parse_cursor(queries.cursor_of(row)) == (row.at, row.event_id)
