"""`crewkit users` and `crewkit signing-keys`: what operators do before anybody can sign in, directly on the database."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from cli.processes.common import data_dir_option, instance_settings, print_table, run_async
from domain.kernel import DomainError


@click.group()
def users() -> None:
    """Users of this installation."""


@users.command()
@click.option("--email", required=True, help="Address; it counts as verified.")
@click.option("--name", help="Name.")
@click.option("--owner", is_flag=True, help="Owns the organization and the installation.")
@click.option(
    "--organization", default="default", show_default=True, help="Slug of the organization that --owner means."
)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking.")
@click.option("--no-password", is_flag=True, help="No password: sign in by mailed link, then add a passkey.")
@data_dir_option
def create(
    email: str,
    name: str | None,
    owner: bool,
    organization: str,
    password_stdin: bool,
    no_password: bool,
    data_dir: Path | None,
) -> None:
    """Make a user who can sign in at once, for example the first one of a fresh installation.

    Exit codes: 0 made, 1 refused (for example: the address has an account), 2 wrong command line, 3 no database.
    """
    from workers.identity import create_user  # noqa: PLC0415

    if password_stdin and no_password:
        raise click.UsageError("--password-stdin and --no-password exclude each other")
    settings = instance_settings(data_dir)
    password = None if no_password else _password(password_stdin)
    try:
        made = run_async(
            create_user(settings, email=email, name=name, password=password, owner_of=organization if owner else None)
        )
    except DomainError as error:
        raise click.ClickException(str(error) if error.code != "conflict" else "the address has an account") from error
    click.echo(f"made user {made.user_id}" + (f", owner of {organization}" if made.organization_id else ""))


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


@click.group("signing-keys")
def signing_keys() -> None:
    """Keys that sign access tokens.  They rotate by themselves every 90 days."""


@signing_keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@data_dir_option
def list_command(as_json: bool, data_dir: Path | None) -> None:
    """List the keys whose signatures count, oldest first."""
    from workers.identity import signing_keys_of  # noqa: PLC0415

    keys = run_async(signing_keys_of(instance_settings(data_dir)))
    now = datetime.now(UTC)
    signs = max((n for n, key in enumerate(keys) if key.active_at <= now), default=-1)
    rows = [
        {
            "key": key.kid,
            "made": f"{key.made_at:%Y-%m-%d %H:%M}",
            "state": "signs" if n == signs else "next" if n > signs else "verifies",
        }
        for n, key in enumerate(keys)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    print_table(rows, empty="no key yet: the first is made when somebody signs in")


@signing_keys.command()
@data_dir_option
def rotate(data_dir: Path | None) -> None:
    """Make the next key now; it signs after two minutes, and nobody is logged out."""
    from workers.identity import rotate_now  # noqa: PLC0415

    kid = run_async(rotate_now(instance_settings(data_dir)))
    click.echo(f"made {kid}" if kid else "the next key was made a moment ago")


@signing_keys.command()
@click.argument("key")
@data_dir_option
def withdraw(key: str, data_dir: Path | None) -> None:
    """Stop believing KEY, because it may have leaked: whoever's access token it signed needs a new one.

    Processes learn of it within 30 seconds.
    """
    from workers.identity import withdraw as work  # noqa: PLC0415

    if not run_async(work(instance_settings(data_dir), key)):
        raise click.ClickException(f"there is no signing key {key}")
    click.echo(f"withdrew {key}")
