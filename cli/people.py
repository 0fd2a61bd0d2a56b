"""`crewkit people`: whom the organization has met, and erasing somebody for ever."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from cli._ask import open_client
from cli.client import Client, refusal
from domain.erasure.decide import REASONS
from domain.words import counted

PAGE_MAX = 200
POLL_S = 1.0


@click.group()
def people() -> None:
    """People: list them, erase one."""


@people.command("list")
@click.option("--json", "as_json", is_flag=True, help="The service's objects, one per line.")
def list_command(as_json: bool) -> None:
    """List people with their ids; e-mail and name where they are known.

    Exit codes: 0 ok, 1 refused, 2 wrong command line, 3 the service cannot be reached.
    """
    after: str | None = None
    with open_client() as client:
        while True:
            page = json.loads(client.get("/people", {"limit": PAGE_MAX, "after": after}))
            for one in page["items"]:
                click.echo(json.dumps(one, ensure_ascii=False) if as_json else _line(one))
            after = page["next_after"]
            if after is None:
                return


@people.command("erase")
@click.argument("person_id", type=click.UUID)
@click.option("--reason", required=True, type=click.Choice(REASONS), help="Why; stands in the certificate.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the certificate as JSON.")
def erase_command(person_id: Any, reason: str, yes: bool, as_json: bool) -> None:
    """Erase PERSON_ID for ever: their key is destroyed, and everything sealed for them is unreadable from then on.

    The events stay, so the history is still proven.  Exit codes: 0 ok, 1 refused, 2 wrong command line, 3 the service cannot
    be reached.
    """
    if not yes:
        click.confirm(f"Erase person {person_id} for ever?  This cannot be undone", abort=True)
    with open_client() as client:
        body = msgspec.json.encode({"reason": reason, "confirm": str(person_id)})
        answer = client.ask("POST", client.path(f"/people/{quote(str(person_id))}/erase"), body)
        if answer.status != 200:
            raise refusal(answer)
    certificate = json.loads(answer.body)
    if as_json:
        click.echo(msgspec.json.format(answer.body, indent=2))
    else:
        click.echo(certificate["note"])
        click.echo(f"certificate {certificate['erasure_id']}; `crewkit audit certificate` shows it again", err=True)


@people.command("export")
@click.argument("person_id", type=click.UUID)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Zip file to write.")
@click.option(
    "--wait", "wait_s", default=600, show_default=True, type=click.IntRange(0), help="Seconds to wait for it."
)
def export_command(person_id: Any, out: Path | None, wait_s: int) -> None:
    """Fetch everything the organization holds about PERSON_ID, opened, as one zip file.

    Asks for the archive where there is none, and waits until it is written.  It stays with the service for seven days.
    Exit codes: 0 ok, 1 refused or not ready in time, 2 wrong command line, 3 the service cannot be reached.
    """
    with open_client() as client:
        link = _open_export(client, str(person_id))
        deadline = time.monotonic() + wait_s
        while True:
            answer = client.ask("GET", link)
            if answer.status != 200:
                raise refusal(answer)
            found = json.loads(answer.body)
            if found["status"] != "requested":
                break
            if time.monotonic() >= deadline:
                raise click.ClickException(
                    f"not ready yet; the same command goes on waiting for export {found['export_id']}"
                )
            time.sleep(POLL_S)
        if found["status"] != "ready":
            raise click.ClickException("the archive was deleted")
        _, body = client.stream(found["_links"]["download"])
        target = out or Path(f"crewkit-export-{found['export_id']}.zip")
        with target.open("wb") as file:
            for block in body:
                file.write(block)
    target.chmod(0o600)
    click.echo(
        f"{target}: {counted(found['events'], 'event')}; it stays with the service until {found['expires_at'][:10]}"
    )


def _open_export(client: Client, person_id: str) -> str:
    """Where the person's archive is asked after: a new one, or the one there is."""
    answer = client.ask("POST", client.path(f"/people/{quote(person_id)}/export"))
    if answer.status == 202:
        return str(json.loads(answer.body)["_links"]["self"])
    if answer.status == 409:
        listed = json.loads(client.get("/data_exports", {"person_id": person_id}))
        for one in listed["items"]:
            if one["status"] != "expired":
                return str(one["_links"]["self"])
    raise refusal(answer)


def _line(one: dict[str, Any]) -> str:
    if one["erased_at"]:
        return f"{one['person_id']}  erased {one['erased_at'][:19]}"
    return f"{one['person_id']}  {one['email'] or '-'}  {one['name'] or ''}".rstrip()
