"""What the commands for people share: the connection as the caller is known, answers as objects, confirmation."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import click
import msgspec

from cli import _login
from cli.client import READ_TIMEOUT_S, Client, Connection, resolve

PAGE_SIZE = 100
LIMIT_DEFAULT = 100

organization_option = click.option("--organization", "-o", help="Slug or id of the organization, where it is another.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the service's object as JSON.")
limit_option = click.option(
    "--limit", default=LIMIT_DEFAULT, show_default=True, type=click.IntRange(1), help="At most so many."
)


def open_client(organization: str | None = None, *, timeout_s: float = READ_TIMEOUT_S) -> Client:
    """A client of the service as whom we are: `CREWKIT_API_KEY`, else the login of `crewkit auth login`, else the key on file.

    Raises:
        UnreachableError: no address is known.
    """
    chosen_url = os.environ.get("CREWKIT_URL", "").rstrip("/")
    login = None if os.environ.get("CREWKIT_API_KEY") else _login.read()
    if login is None or (chosen_url and chosen_url != login.url):
        found = resolve()
        if organization is not None:
            found = msgspec.structs.replace(found, organization=organization)
        return Client(found, timeout_s)
    named = organization or os.environ.get("CREWKIT_ORGANIZATION") or login.organization or "default"
    return _login.SignedInClient(Connection(login.url, "", named, "the login"), timeout_s)


def ask(client: Client, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """One request and the object it answers; a POST carries a key so that repeating it after a broken connection is safe.

    Raises:
        RefusedError: an answer other than 2xx.
        UnreachableError: no answer.
    """
    headers = {"Idempotency-Key": uuid.uuid4().hex} if method == "POST" else None
    raw = None if body is None else msgspec.json.encode(body)
    return _login.told_by(client.ask(method, path, raw, headers))


def organization_path(client: Client) -> str:
    """The organization itself."""
    return f"/api/v1/organizations/{quote(client.connection.organization, safe='')}"


def pages(client: Client, path: str, limit: int, **query: Any) -> Iterator[dict[str, Any]]:
    """The objects of a paged list of our organization, at most `limit`."""
    left, number = limit, 1
    while left > 0:
        asked = {**query, "page": number, "page_size": min(PAGE_SIZE, max(left, 1))}
        page = json.loads(client.get(path, asked))
        yield from page["items"][:left]
        left -= len(page["items"])
        if "next" not in page["_links"] or not page["items"]:
            return
        number += 1


def show(found: dict[str, Any], names: Sequence[str], *, as_json: bool) -> None:
    """One object: as JSON, or the named fields, one a line."""
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    width = max(map(len, names))
    for name in names:
        click.echo(f"{name.replace('_', ' '):{width}}  {told(found.get(name))}")


def show_all(found: Sequence[dict[str, Any]], names: Sequence[str], *, as_json: bool, empty: str) -> None:
    """A list: one JSON object a line, or a table of the named fields."""
    if as_json:
        for one in found:
            click.echo(json.dumps(one, ensure_ascii=False))
        return
    from cli.processes.common import print_table  # noqa: PLC0415  brings all process commands along

    print_table([{name: told(one.get(name)) for name in names} for one in found], empty=empty)


def told(value: Any) -> str:
    """A value as people read it; nothing is a dash."""
    if value in (None, [], {}):
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return str(value)


def told_done(done: dict[str, Any], words: str, as_json: bool) -> None:
    """Say that something is over, where the service has no object to show any more."""
    click.echo(json.dumps(done, ensure_ascii=False, indent=2) if as_json else words)


def typed_slug(confirm: str | None, slug: str, what: str) -> str:
    """What the caller typed to confirm: the option, else asked for on a terminal.

    Raises:
        click.UsageError: neither.
    """
    if confirm is not None:
        return confirm
    if not sys.stdin.isatty():
        raise click.UsageError(f"to delete {what}, add --confirm {slug}")
    typed: str = click.prompt(f"This deletes {what}.  Type {slug} to confirm", err=True)
    return typed


def sure(yes: bool, question: str) -> None:
    """Ask, unless `yes`.

    Raises:
        click.UsageError: nobody is there to answer.
        click.Abort: no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to ask: add --yes")
    click.confirm(question, abort=True, err=True)


def changes(**given: Any) -> dict[str, Any]:
    """What was given.

    Raises:
        click.UsageError: nothing was.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen:
        raise click.UsageError("say what to change; --help lists the options")
    return chosen
