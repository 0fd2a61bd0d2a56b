"""What operators and the schedule do about users, devices and signing keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from cli.main import root
from commands.bus import transact
from commands.signin.devices import CODE_CLAIM
from commands.tokens.keys import new_signing_key
from commands.users.accounts import email_key
from commands.users.login import Visit, log_in_with_password
from commands.users.passwords import Hashing
from domain.kernel import PLATFORM, NotFoundError
from domain.organizations.events import MemberAdded
from domain.signin import devices
from domain.tokens import decide
from domain.users.events import UserRegistered
from eventstore.port import Claim, Meta, NameTakenError
from eventstore.settings import Settings
from projections.users.queries import user_of_email
from tests.api.conftest import house, master_key_file, postgres_url, settings
from tests.api.house import House
from workers.identity import create_user, expire_devices, opened, rotate_signing_keys

__all__ = ["house", "master_key_file", "postgres_url", "settings"]
ADA = "ada@example.com"
PASSWORD = "correct horse battery staple"


async def test_the_first_owner_signs_in_at_once(house: House, settings: Settings) -> None:
    made = await create_user(settings, email=ADA, name="Ada", password=PASSWORD, owner_of="default")
    assert made.organization_id == house.ours.org_id
    await house.project()
    async with opened(settings) as (pool, tools):
        key = email_key(tools.secret, ADA)
        assert await user_of_email(pool, key) == made.user_id
        pair = await log_in_with_password(tools, Hashing(), key, made.user_id, PASSWORD, Visit())
        assert (await tools.tokens.check(pair.access_token)).platform_role == "crewkit_owner"
    (added,) = [
        one.event
        for one in await house.store.read_all(0, org_id=house.ours.org_id)
        if isinstance(one.event, MemberAdded) and one.event.user_id == made.user_id
    ]
    assert added.permission == "owner"


async def test_an_account_is_made_once_and_only_for_organizations_there_are(house: House, settings: Settings) -> None:
    with pytest.raises(NotFoundError):
        await create_user(settings, email=ADA, name=None, password=None, owner_of="nowhere")
    await create_user(settings, email=ADA, name=None, password=None, owner_of=None)
    with pytest.raises(NameTakenError):
        await create_user(settings, email=ADA.upper(), name=None, password=None, owner_of=None)
    made = [one.event for one in await house.store.find(PLATFORM, type="user.registered.v1")]
    assert [event.token for event in made if isinstance(event, UserRegistered)] == [None], "nobody is mailed"


def test_the_command_asks_for_nothing_it_was_told(
    postgres_url: str, master_key_file: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("CREWKIT_DATABASE_URL", postgres_url)
    monkeypatch.setenv("CREWKIT_KEY_FILE", str(master_key_file))
    monkeypatch.setenv("CREWKIT_DATA_DIR", str(tmp_path))

    def run(words: list[str], **more: Any) -> Any:
        return CliRunner().invoke(root, words, **more)

    short = run(["users", "create", "--email", ADA, "--password-stdin"], input="short\n")
    assert (short.exit_code, "password must have 10" in short.output) == (1, True)
    made = run(["users", "create", "--email", ADA, "--password-stdin"], input=PASSWORD + "\n")
    assert made.exit_code == 0, made.output
    assert PASSWORD not in made.output
    again = run(["users", "create", "--email", ADA, "--no-password"])
    assert (again.exit_code, "has an account" in again.output) == (1, True)
    assert ADA not in again.output
    assert run(["users", "create", "--email", ADA, "--no-password", "--password-stdin"]).exit_code == 2
    assert "no key yet" in run(["signing-keys", "list"]).output
    assert run(["signing-keys", "rotate"]).output.startswith("made ")
    listed = run(["signing-keys", "list"]).output
    assert "next" in listed
    kid = listed.splitlines()[1].split()[0]
    assert run(["signing-keys", "withdraw", kid]).exit_code == 0
    assert run(["signing-keys", "withdraw", kid]).exit_code == 1


async def test_devices_that_nobody_came_back_for_expire_and_their_codes_are_free(
    house: House, settings: Settings
) -> None:
    async def start(device_id: str, at: datetime) -> None:
        await transact(
            house.store,
            PLATFORM,
            devices.device_stream(device_id),
            devices.evolve,
            devices.NO_DEVICE,
            lambda state: devices.start(state, device_id=device_id, user_code_key="code", client="", at=at),
            meta=Meta(),
            claims=[Claim(CODE_CLAIM, "code")],
        )

    await start("old", datetime.now(UTC) - devices.DEVICE_LIFE)
    with pytest.raises(NameTakenError):
        await start("new", datetime.now(UTC))
    await house.project()
    async with opened(settings) as (pool, tools):
        assert await expire_devices(settings, pool, tools.store) == 1
        await house.project()
        assert await expire_devices(settings, pool, tools.store) == 0
    await start("new", datetime.now(UTC))


async def test_signing_keys_rotate_when_they_are_old_and_not_before(house: House) -> None:
    assert await rotate_signing_keys(house.store) == 0, "the first is made when somebody signs in"
    old = datetime.now(UTC) - decide.KEY_LIFE - timedelta(days=1)
    made = msgspec.structs.replace(new_signing_key(old, old), made_at=old)
    await transact(
        house.store,
        PLATFORM,
        decide.KEYS_STREAM,
        decide.evolve_keys,
        decide.NO_KEYS,
        lambda state: decide.make_first(state, made, at=old),
        meta=Meta(),
    )
    assert await rotate_signing_keys(house.store) == 1
    assert await rotate_signing_keys(house.store) == 0
