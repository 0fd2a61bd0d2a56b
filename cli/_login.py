"""The login of this laptop: its tokens in the keyring of the operating system where there is one, else in a file of mode 0600.

Refresh tokens work once, so whoever renews holds a lock, reads what is stored once more, and stores the new pair before it
lets go: two commands at once spend one refresh token once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Generator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import click
import msgspec

from cli.capture.paths import client_dir, write_atomically
from cli.client import Answer, Client, Connection, refusal

SERVICE = "crewkit"  # the name in the keyring
FILE = "login.json"
LOCK = "login.lock"
LOCK_WAIT_S_MAX = 30.0
LOCK_POLL_S = 0.05
RENEW_BEFORE_S = 60.0  # an access token that ends so soon is renewed first
A = "/api/v1/auth"


class Tokens(msgspec.Struct, frozen=True):
    """A pair.  `expires_at` is the access token's, in seconds since 1970."""

    access_token: str
    refresh_token: str
    expires_at: float

    @classmethod
    def of(cls, answer: dict[str, Any], now: float) -> Tokens:
        """The pair in an answer of the service."""
        return cls(answer["access_token"], answer["refresh_token"], now + float(answer["expires_in"]))


class Login(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who is signed in where.  `tokens` None: they are in the keyring."""

    url: str
    user_id: str
    organization: str = ""
    tokens: Tokens | None = None


class NotSignedInError(click.ClickException):
    """There is no login, or it is over: exit code 1."""

    exit_code = 1

    def __init__(self, why: str = "not signed in") -> None:
        super().__init__(f"{why}; sign in with `crewkit auth login`")


def _file() -> Path:
    return client_dir() / FILE


def _keyring() -> Any:
    """The keyring library, where it is installed and finds a keyring that keeps what it is given; else None."""
    try:
        import keyring  # noqa: PLC0415  an optional extra
        from keyring.backends import fail, null  # noqa: PLC0415
    except ImportError:
        return None
    backend = keyring.get_keyring()
    if isinstance(backend, fail.Keyring | null.Keyring) or backend.priority < 1:
        return None
    return keyring


def read() -> Login | None:
    """The login, with its tokens from wherever they are; None where there is none."""
    try:
        login = msgspec.json.decode(_file().read_bytes(), type=Login)
    except (OSError, msgspec.DecodeError):
        return None
    if login.tokens is not None:
        return login
    kept = _from_keyring(login.url)
    return None if kept is None else msgspec.structs.replace(login, tokens=kept)


def _from_keyring(url: str) -> Tokens | None:
    if (library := _keyring()) is None:
        return None
    from keyring.errors import KeyringError  # noqa: PLC0415

    try:
        text = library.get_password(SERVICE, url)
        return None if text is None else msgspec.json.decode(text.encode(), type=Tokens)
    except (KeyringError, msgspec.DecodeError):
        return None


def write(login: Login) -> str:
    """Keep the login; where its tokens are now: `keyring` or `file`."""
    place = "file"
    if login.tokens is not None and _to_keyring(login.url, login.tokens):
        login, place = msgspec.structs.replace(login, tokens=None), "keyring"
    folder = client_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(_file(), msgspec.json.encode(login))
    return place


def _to_keyring(url: str, tokens: Tokens) -> bool:
    if (library := _keyring()) is None:
        return False
    from keyring.errors import KeyringError  # noqa: PLC0415

    try:
        library.set_password(SERVICE, url, msgspec.json.encode(tokens).decode())
    except KeyringError:
        return False
    return _from_keyring(url) == tokens


def place() -> str:
    """Where the tokens of the login are: `keyring` or `file`."""
    try:
        return "file" if json.loads(_file().read_bytes()).get("tokens") else "keyring"
    except (OSError, ValueError, AttributeError):
        return "file"


def forget(url: str) -> None:
    """Drop the login and its tokens."""
    if (library := _keyring()) is not None:
        from keyring.errors import KeyringError  # noqa: PLC0415

        with contextlib.suppress(KeyringError):
            library.delete_password(SERVICE, url)
    _file().unlink(missing_ok=True)


@contextlib.contextmanager
def locked() -> Generator[None]:
    """Alone with the login.

    Raises:
        click.ClickException: another command has held it for half a minute.
    """
    folder = client_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S_MAX
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise click.ClickException("another crewkit command keeps the login locked; try again") from error
                time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(handle)


def renewed(spent: str | None = None) -> Login:
    """The login with an access token that works for a while; renewed where that is needed.

    `spent`: this access token was refused, whatever it says about its end.

    Raises:
        NotSignedInError: there is no login, or it is over.
        UnreachableError: the service does not answer.
    """
    login = read()
    if login is not None and _is_fresh(login, spent):
        return login
    with locked():
        login = read()  # another command may have renewed it while we waited
        if login is None or login.tokens is None:
            raise NotSignedInError
        if _is_fresh(login, spent):
            return login
        body = msgspec.json.encode({"refresh_token": login.tokens.refresh_token})
        with Client(Connection(login.url, "", "", "the login")) as client:
            answer = client.ask("POST", f"{A}/refresh", body)
        if answer.status in {400, 401, 403}:
            forget(login.url)
            raise NotSignedInError("this login is over")
        told = told_by(answer)
        login = msgspec.structs.replace(login, tokens=Tokens.of(told, time.time()))
        write(login)
        return login


def _is_fresh(login: Login, spent: str | None) -> bool:
    tokens = login.tokens
    return tokens is not None and tokens.access_token != spent and tokens.expires_at - RENEW_BEFORE_S > time.time()


def told_by(answer: Answer) -> dict[str, Any]:
    """The object in a good answer.

    Raises:
        RefusedError: the service refused.
    """
    if not 200 <= answer.status < 300:
        raise refusal(answer)
    told: dict[str, Any] = json.loads(answer.body) if answer.body else {}
    return told


class SignedInClient(Client):
    """A client that sends the access token of the login, and renews it when it must."""

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        super().__init__(connection, timeout_s)
        self._token: str | None = None

    def _send(self, method: str, path: str, body: bytes | None, headers: Any) -> Any:
        for again in (False, True):
            tokens = renewed(self._token if again else None).tokens
            self._token = tokens.access_token if tokens else None
            self._headers["Authorization"] = f"Bearer {self._token}"
            response = super()._send(method, path, body, headers)
            if response.status != 401 or again:
                return response
            try:
                response.read()
            except (OSError, HTTPException):
                self.close()
        raise AssertionError  # the second round always returns
