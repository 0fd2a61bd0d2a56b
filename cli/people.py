"""`crewkit people`: whom the organization has met, and erasing somebody for ever."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import click
import msgspec

from cli.client import Client, refusal, resolve
from domain.erasure.decide import REASONS

PAGE_MAX = 200


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
    with Client(resolve()) as client:
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
    with Client(resolve()) as client:
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


def _line(one: dict[str, Any]) -> str:
    if one["erased_at"]:
        return f"{one['person_id']}  erased {one['erased_at'][:19]}"
    return f"{one['person_id']}  {one['email'] or '-'}  {one['name'] or ''}".rstrip()
