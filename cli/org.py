"""`crewkit org`: the organization itself."""

from __future__ import annotations

from typing import Any

import click

from cli._ask import (
    ask,
    changes,
    json_option,
    open_client,
    organization_option,
    organization_path,
    show,
    told_done,
    typed_slug,
)

FIELDS = ("slug", "name", "organization_id", "region", "permission", "coaching_enforcement", "settings", "created_at")


@click.group()
def org() -> None:
    """Look at, change or delete the organization.

    Exit codes: 0 ok, 1 refused, 2 wrong command line, 3 the service cannot be reached.
    """


@org.command("info")
@organization_option
@click.option("--as-of", help="As it was at this position or time.")
@json_option
def info_command(organization: str | None, as_of: str | None, as_json: bool) -> None:
    """Show the organization and what you may do in it."""
    with open_client(organization) as client:
        path = organization_path(client)
        if as_of is not None:
            path = client.with_query(path, {"as_of": as_of})
        show(ask(client, "GET", path), FIELDS, as_json=as_json)


@org.command("update")
@organization_option
@click.option("--name")
@click.option("--slug", help="The old one is free for others at once, and old paths lead nowhere.")
@click.option("--coaching", type=click.Choice(["soft", "hard"]), help="How strictly working roles hold.")
@click.option("--set", "wanted", multiple=True, metavar="NAME=VALUE", help="A setting; an empty value removes it.")
@json_option
def update_command(
    organization: str | None,
    name: str | None,
    slug: str | None,
    coaching: str | None,
    wanted: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change what is given; the rest stays."""
    settings: dict[str, Any] = {}
    for one in wanted:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--set: expected NAME=VALUE, got {one!r}")
        settings[key] = value or None
    body = changes(name=name, slug=slug, coaching_enforcement=coaching, settings=settings or None)
    with open_client(organization) as client:
        show(ask(client, "PATCH", organization_path(client), body), FIELDS, as_json=as_json)


@org.command("delete")
@organization_option
@click.option("--confirm", metavar="SLUG", help="Its slug, instead of being asked.")
@json_option
def delete_command(organization: str | None, confirm: str | None, as_json: bool) -> None:
    """Hide the organization: nothing of it can be read or written.  Staff can restore it for 90 days, then it is gone."""
    with open_client(organization) as client:
        path = organization_path(client)
        found = ask(client, "GET", path)
        slug = found["slug"]
        ask(client, "DELETE", path, {"confirm": typed_slug(confirm, slug, f"organization {slug}")})
    told_done({"deleted": slug, "organization_id": found["organization_id"]}, f"Deleted organization {slug}", as_json)
