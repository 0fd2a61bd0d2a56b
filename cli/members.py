"""`crewkit members`: who belongs to the organization."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import UUID

import click

from cli._ask import (
    ask,
    changes,
    json_option,
    limit_option,
    open_client,
    organization_option,
    pages,
    show,
    show_all,
    sure,
    told_done,
)
from cli.client import Client

FIELDS = ("user_id", "email", "name", "permission", "org_role", "added_at")
INVITED = ("email", "permission", "org_role", "status", "expires_at")
SEARCHED_MAX = 10_000  # members looked through for an address
PERMISSIONS = ("owner", "admin", "manager", "developer", "viewer")

permission_option = click.option("--permission", type=click.Choice(PERMISSIONS), help="What they may do.")
org_role_option = click.option("--org-role", help="Key of a working role: how agents treat them.")


@click.group()
def members() -> None:
    """List, invite, change and remove members.

    Exit codes: 0 ok, 1 refused, 2 wrong command line, 3 the service cannot be reached.
    """


@members.command("list")
@organization_option
@permission_option
@org_role_option
@click.option("--as-of", help="As it was at this position or time.")
@limit_option
@click.option("--json", "as_json", is_flag=True, help="The service's objects, one per line.")
def list_command(organization: str | None, limit: int, as_json: bool, **filters: str | None) -> None:
    """Show members, the longest first."""
    with open_client(organization) as client:
        found = list(pages(client, "/members", limit, **filters))
    show_all(found, FIELDS, as_json=as_json, empty="no members")


@members.command("invite")
@click.argument("email")
@organization_option
@permission_option
@org_role_option
@json_option
def invite_command(
    email: str, organization: str | None, permission: str | None, org_role: str | None, as_json: bool
) -> None:
    """Invite EMAIL: a mail with a link that is good for 7 days.  Without options they become a senior developer."""
    body = changes(email=email, permission=permission, org_role=org_role)
    with open_client(organization) as client:
        show(ask(client, "POST", client.path("/members/invitations"), body), INVITED, as_json=as_json)


@members.command("update")
@click.argument("member")
@organization_option
@permission_option
@org_role_option
@json_option
def update_command(
    member: str, organization: str | None, permission: str | None, org_role: str | None, as_json: bool
) -> None:
    """Change what MEMBER (user id or e-mail) may do, or how agents treat them."""
    body = changes(permission=permission, org_role=org_role)
    with open_client(organization) as client:
        show(ask(client, "PATCH", _path(client, _found(client, member)["user_id"]), body), FIELDS, as_json=as_json)


@members.command("remove")
@click.argument("member")
@organization_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def remove_command(member: str, organization: str | None, yes: bool, as_json: bool) -> None:
    """Take MEMBER (user id or e-mail) out of the organization.  The last owner stays."""
    with open_client(organization) as client:
        found = _found(client, member)
        name = found.get("email") or found["user_id"]
        sure(yes, f"Remove {name} from {client.connection.organization}?")
        ask(client, "DELETE", _path(client, found["user_id"]))
    told_done({"removed": found["user_id"], "email": found.get("email")}, f"Removed {name}", as_json)


def _path(client: Client, user_id: str) -> str:
    return client.path(f"/members/{quote(user_id, safe='')}")


def _found(client: Client, member: str) -> dict[str, Any]:
    """The member of that id or address.

    Raises:
        click.ClickException: there is none.
    """
    try:
        wanted = UUID(member)
    except ValueError:
        address = member.strip().lower()
        for one in pages(client, "/members", SEARCHED_MAX):
            if (one["email"] or "").lower() == address:
                return one
        raise click.ClickException(f"no member has the address {member}; `crewkit members list` shows them") from None
    return ask(client, "GET", _path(client, str(wanted)))
