"""`crewkit auth` against the real application: the device flow, tokens that renew themselves once, and where they are kept."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import httpx
import pytest

from cli import _login
from cli._login import Login, Tokens
from cli.auth import wait_for_decision
from cli.capture.paths import ClientDir
from cli.client import RefusedError, UnreachableError
from commands.tokens import Pair, revoke_family
from domain.kernel import PLATFORM
from eventstore.port import Meta
from tests.api.conftest import app, house, live, master_key_file, postgres_url, settings
from tests.api.house import House, Live
from tests.api.signing_in import join, registered, signed_in
from tests.cli.conftest import PROGRAM, crewkit

__all__ = ["app", "house", "live", "master_key_file", "postgres_url", "settings"]  # fixtures


@pytest.fixture
def home(paths: ClientDir, live: Live, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A laptop that knows no connection and has no keyring."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    return paths.home


async def run(*words: str, check: int | None = 0) -> Any:
    return await asyncio.to_thread(crewkit, *words, check=check)


def keep(live: Live, pair: Pair, *, expires_in: float = 3_600, organization: str = "default") -> None:
    """What `crewkit auth login` would have left behind."""
    tokens = Tokens(pair.access_token, pair.refresh_token, time.time() + expires_in)
    _login.write(Login(live.url, str(pair.user_id), organization, tokens))


async def rotations(house: House) -> int:
    return len(await house.store.find(PLATFORM, type="refresh_token.rotated.v1"))


async def test_signing_in_with_the_browser_and_out_again(house: House, live: Live, home: Path) -> None:
    async with httpx.AsyncClient(base_url=live.url, timeout=20) as http:
        await registered(http, house, "ada@example.com")
        sign_in = {"email": "ada@example.com", "password": "correct horse battery staple"}
        pair = (await http.post("/api/v1/auth/login", json=sign_in)).json()
        await join(house, house.ours, UUID(pair["user_id"]), "admin")
        program = [*PROGRAM, "auth", "login", "--url", live.url, "--no-browser", "--json"]
        waiting = await asyncio.create_subprocess_exec(*program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert waiting.stderr is not None
        address, code = [(await waiting.stderr.readline()).decode().split()[1] for _ in range(2)]
        assert address.endswith("/device")
        await house.project()
        decided = await http.post(
            "/api/v1/auth/device/verify",
            json={"user_code": code},
            headers={"Authorization": f"Bearer {pair['access_token']}"},
        )
        assert decided.status_code == 200, decided.text
        out, err = await asyncio.wait_for(waiting.communicate(), 30)
    assert waiting.returncode == 0, err
    told = json.loads(out)
    assert (told["email"], told["organization"], told["tokens_in"]) == ("ada@example.com", "default", "file")
    assert (home / "login.json").stat().st_mode & 0o777 == 0o600
    assert "Signed in" in (await run("auth", "status")).stdout
    assert json.loads((await run("org", "info", "--json")).stdout)["permission"] == "admin", "other commands act as Ada"
    assert (await run("auth", "logout")).stdout == "Signed out\n"
    assert not (home / "login.json").exists()
    revoked = await house.store.find(PLATFORM, type="token_family.revoked.v1")
    assert len(revoked) == 1, "the service was told"
    assert "not signed in" in (await run("auth", "status", check=1)).stderr
    assert "not signed in" in (await run("auth", "logout", check=1)).stderr


async def test_commands_at_once_spend_a_refresh_token_once(house: House, live: Live, home: Path) -> None:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "viewer")
    keep(live, pair, expires_in=-1)
    done = await asyncio.gather(*(run("auth", "status", "--json") for _ in range(6)))
    assert {json.loads(one.stdout)["user_id"] for one in done} == {str(pair.user_id)}
    assert await rotations(house) == 1
    assert await house.store.find(PLATFORM, type="refresh_token.reuse_detected.v1") == []


async def test_an_access_token_that_is_refused_is_renewed_and_the_request_repeated(
    house: House, live: Live, home: Path
) -> None:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "viewer")
    tokens = Tokens(pair.access_token[:-8] + "AAAAAAAA", pair.refresh_token, time.time() + 3_600)
    _login.write(Login(live.url, str(pair.user_id), "default", tokens))
    assert json.loads((await run("org", "info", "--json")).stdout)["slug"] == "default"
    assert await rotations(house) == 1


async def test_a_login_that_ended_elsewhere_is_dropped(house: House, live: Live, home: Path) -> None:
    pair = await signed_in(house)
    await house.project()
    await revoke_family(house.tools, pair.family_id, reason="revoked", meta=Meta())
    keep(live, pair, expires_in=-1)
    assert "sign in with" in (await run("org", "info", check=1)).stderr
    assert not (home / "login.json").exists()


async def test_a_key_in_the_environment_comes_first(
    house: House, live: Live, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "viewer")
    keep(live, pair)
    monkeypatch.setenv("CREWKIT_API_KEY", house.theirs.keys["read"])
    monkeypatch.setenv("CREWKIT_URL", live.url)
    monkeypatch.setenv("CREWKIT_ORGANIZATION", "other")
    assert json.loads((await run("org", "info", "--json")).stdout)["slug"] == "other"
    assert "as that key" in (await run("auth", "status")).stdout
    monkeypatch.delenv("CREWKIT_API_KEY")
    monkeypatch.setenv("CREWKIT_URL", "http://127.0.0.1:1")
    assert (await run("org", "info", check=3)).stderr, "a login is for its own address only"


async def test_a_service_that_is_away_is_exit_code_3_and_logging_out_works_all_the_same(
    house: House, home: Path
) -> None:
    pair = await signed_in(house)
    keep(Live("http://127.0.0.1:1", None), pair)  # type: ignore[arg-type]
    assert "Cannot reach" in (await run("auth", "status", check=3)).stderr
    assert "Cannot reach" in (await run("auth", "logout", check=3)).stderr
    assert not (home / "login.json").exists(), "here it is over"
    assert "expected http" in (await run("auth", "login", "--url", "nowhere", check=2)).stderr


KEYRING = '''
import json
from pathlib import Path
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError

class Keyring(KeyringBackend):
    """Stands in for the operating system's: keeps what it is given in one file."""
    priority = 9
    path = Path(__file__).with_name("kept.json")
    def _all(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}
    def get_password(self, service, username):
        return self._all().get(service + username)
    def set_password(self, service, username, password):
        self.path.write_text(json.dumps({**self._all(), service + username: password}))
    def delete_password(self, service, username):
        kept = self._all()
        if service + username not in kept:
            raise PasswordDeleteError("nothing there")
        del kept[service + username]
        self.path.write_text(json.dumps(kept))
'''


async def test_tokens_are_in_the_keyring_where_there_is_one(
    house: House, live: Live, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "keyring"
    (folder / "config" / "python_keyring").mkdir(parents=True)
    (folder / "ours_of_the_test.py").write_text(KEYRING)
    (folder / "config" / "python_keyring" / "keyringrc.cfg").write_text(
        f"[backend]\ndefault-keyring=ours_of_the_test.Keyring\nkeyring-path={folder}\n"
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.delenv("PYTHON_KEYRING_BACKEND")
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "viewer")
    keep_in_a_new_process(live, pair)
    assert pair.refresh_token in (folder / "kept.json").read_text()
    assert pair.refresh_token not in (home / "login.json").read_text()
    status = json.loads((await run("auth", "status", "--json")).stdout)
    assert status["tokens_in"] == "keyring"
    told = json.loads((await run("auth", "logout", "--json")).stdout)
    assert told["signed_out"] == live.url
    assert json.loads((folder / "kept.json").read_text()) == {}


def keep_in_a_new_process(live: Live, pair: Pair) -> None:
    """The keyring library chooses its keyring once per process."""
    root = Path(PROGRAM[-1]).parent
    script = (
        f"import sys; sys.path.insert(0, {str(root)!r}); import time; from cli import _login; "
        f"tokens = _login.Tokens({pair.access_token!r}, {pair.refresh_token!r}, time.time() + 3600); "
        f"assert _login.write(_login.Login({live.url!r}, {str(pair.user_id)!r}, 'default', tokens)) == 'keyring'"
    )
    subprocess.run([sys.executable, "-I", "-c", script], check=True)


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def refused(code: str, status: int = 400) -> RefusedError:
    return RefusedError(status, code, code)


def decide(*answers: Any, expires_in_s: float = 600) -> tuple[Any, list[float]]:
    clock, left = Clock(), list(answers)

    def fetch() -> dict[str, Any]:
        answer = left.pop(0) if left else refused("authorization_pending")
        if isinstance(answer, Exception):
            raise answer
        return {"access_token": answer}

    try:
        told: Any = wait_for_decision(fetch, interval_s=5, expires_in_s=expires_in_s, sleep=clock.sleep, clock=clock)
    except click.ClickException as error:
        told = error.message
    return told, clock.slept


def test_waiting_for_a_decision_follows_rfc_8628() -> None:
    pending, slower = refused("authorization_pending"), refused("slow_down")
    assert decide(pending, pending, "t") == ({"access_token": "t"}, [5, 5, 5])
    assert decide(slower, pending, slower, "t") == ({"access_token": "t"}, [5, 10, 10, 15])
    assert decide(UnreachableError("away"), UnreachableError("away"), "t") == ({"access_token": "t"}, [5, 10, 20])
    assert decide(pending, refused("access_denied"))[0] == "denied in the browser"
    assert decide(refused("expired_token"))[0] == "nobody decided in time; start again"
    assert decide(refused("internal_error", 500)) == ("internal_error", [5])


def test_waiting_ends_with_the_code_whatever_the_service_says() -> None:
    told, slept = decide(expires_in_s=600)
    assert told == "nobody decided in time; start again"
    assert sum(slept) < 600
