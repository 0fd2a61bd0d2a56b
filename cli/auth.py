"""`crewkit auth`: sign in with the browser (RFC 8628), see who is signed in, sign out."""

from __future__ import annotations

import json
import os
import socket
import time
import webbrowser
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from cli import _login
from cli._ask import ask, json_option, told_done
from cli._login import A, Login, NotSignedInError, SignedInClient, Tokens
from cli.client import READ_TIMEOUT_S, Client, Connection, RefusedError, UnreachableError, resolve

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SLOWER_S = 5.0  # RFC 8628, section 3.5: what `slow_down` adds
INTERVAL_S_MAX = 60.0
CLIENT_CHARS_MAX = 100


@click.group()
def auth() -> None:
    """Sign in and out.  Commands then act as you, unless CREWKIT_API_KEY is set."""


@auth.command("login")
@click.option("--url", help="Address of the service, where it is not known yet.")
@click.option("--organization", "-o", help="The organization commands are about, where you belong to several.")
@click.option("--no-browser", is_flag=True, help="Only print the address, do not open it.")
@json_option
def login_command(url: str | None, organization: str | None, no_browser: bool, as_json: bool) -> None:
    """Sign in: open the printed address in any browser, on any device, and type the code.

    Waits until you decided there, for at most ten minutes.  Exit codes: 0 signed in, 1 denied or too late, 2 wrong command
    line, 3 the service cannot be reached.
    """
    place = (url or resolve().url).rstrip("/")
    if not place.startswith(("http://", "https://")):
        raise click.UsageError(f"--url: expected http://HOST[:PORT] or https://…, got {place!r}")
    with Client(Connection(place, "", "", "--url" if url else "the connection on file")) as client:
        started = ask(
            client, "POST", f"{A}/device", {"client_id": f"crewkit on {socket.gethostname()}"[:CLIENT_CHARS_MAX]}
        )
        click.echo(f"Open  {started['verification_uri']}", err=True)
        click.echo(f"Code  {started['user_code']}", err=True)
        if not no_browser and not os.environ.get("SSH_CONNECTION"):
            webbrowser.open(started["verification_uri_complete"])
        body = {"grant_type": GRANT, "device_code": started["device_code"]}
        told = wait_for_decision(
            lambda: ask(client, "POST", f"{A}/token", body),
            interval_s=float(started["interval"]),
            expires_in_s=float(started["expires_in"]),
        )
    with _login.locked():
        kept = _login.write(Login(place, told["user_id"], organization or "", Tokens.of(told, time.time())))
        if not organization:
            found = _organizations(place)
            kept = _login.write(Login(place, told["user_id"], found[0] if found else "", Tokens.of(told, time.time())))
            if len(found) > 1:
                click.echo(
                    f"You belong to {', '.join(found)}; choose with --organization or CREWKIT_ORGANIZATION", err=True
                )
    _status(kept, as_json=as_json)


def _organizations(url: str) -> list[str]:
    """Slugs of the organizations of who just signed in."""
    with SignedInClient(Connection(url, "", "", "the login"), READ_TIMEOUT_S) as client:
        return [one["slug"] for one in ask(client, "GET", f"{A}/organizations")["items"]]


def wait_for_decision(
    fetch: Callable[[], dict[str, Any]],
    *,
    interval_s: float,
    expires_in_s: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Ask for the tokens as RFC 8628 says (section 3.5): every `interval_s`, slower when told to or when nobody answers.

    Raises:
        click.ClickException: denied, or nobody decided in time.
        RefusedError: anything else the service refuses.
    """
    deadline = clock() + expires_in_s
    while clock() + interval_s < deadline:
        sleep(interval_s)
        try:
            return fetch()
        except UnreachableError:
            interval_s = min(interval_s * 2, INTERVAL_S_MAX)
        except RefusedError as refused:
            if refused.code == "slow_down":
                interval_s = min(interval_s + SLOWER_S, INTERVAL_S_MAX)
            elif refused.code == "access_denied":
                raise click.ClickException("denied in the browser") from refused
            elif refused.code == "expired_token":
                break
            elif refused.status == 429:
                interval_s = min(max(interval_s, refused.retry_after_s or 0.0), INTERVAL_S_MAX)
            elif refused.code != "authorization_pending":
                raise
    raise click.ClickException("nobody decided in time; start again")


@auth.command("status")
@json_option
def status_command(as_json: bool) -> None:
    """Show who is signed in, where, and until when without asking again.

    Exit codes: 0 signed in, 1 not signed in (any more), 2 wrong command line, 3 the service cannot be reached.
    """
    _status(_login.place(), as_json=as_json)


def _status(kept: str, *, as_json: bool) -> None:
    login = _login.renewed()
    if login.tokens is None:
        raise NotSignedInError
    with SignedInClient(Connection(login.url, "", "", "the login"), READ_TIMEOUT_S) as client:
        me = ask(client, "GET", f"{A}/me")
    told = {
        "url": login.url,
        "user_id": login.user_id,
        "email": me.get("email"),
        "name": me.get("name"),
        "organization": os.environ.get("CREWKIT_ORGANIZATION") or login.organization or None,
        "tokens_in": kept,
        "access_token_until": datetime.fromtimestamp(login.tokens.expires_at, UTC).isoformat(timespec="seconds"),
        "overridden_by": "CREWKIT_API_KEY" if os.environ.get("CREWKIT_API_KEY") else None,
    }
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    click.echo(f"Signed in at {told['url']} as {told['email'] or told['user_id']}")
    if told["organization"]:
        click.echo(f"Organization  {told['organization']}")
    click.echo(f"Tokens        in the {'keyring' if kept == 'keyring' else 'file login.json'}, renewed by themselves")
    if told["overridden_by"]:
        click.echo("CREWKIT_API_KEY is set: commands act as that key, not as you")


@auth.command("logout")
@json_option
def logout_command(as_json: bool) -> None:
    """End the login, here and at the service.

    Exit codes: 0 signed out, 1 not signed in, 2 wrong command line, 3 signed out here, but the service could not be told.
    """
    login = _login.read()
    if login is None or login.tokens is None:
        raise NotSignedInError
    try:
        with SignedInClient(Connection(login.url, "", "", "the login"), READ_TIMEOUT_S) as client:
            ask(client, "DELETE", f"{A}/logout")
    except NotSignedInError:
        pass
    except RefusedError as refused:
        if refused.status != 401:
            raise
    finally:
        with _login.locked():
            _login.forget(login.url)
    told_done({"signed_out": login.url, "user_id": login.user_id}, "Signed out", as_json)
