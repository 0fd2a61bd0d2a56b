"""`crewkit project`: the projects of the organization."""

from __future__ import annotations

from urllib.parse import quote

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
    told_done,
    typed_slug,
)
from cli.client import Client

FIELDS = (
    *("slug", "name", "project_id", "description", "git_remotes", "default_branch"),
    *("stacks", "stacks_source", "created_at", "updated_at"),
)
LISTED = ("slug", "name", "git_remotes", "stacks", "updated_at")

name_option = click.option("--name")
slug_option = click.option("--slug", help="Unique in the organization; made of the name where it is not given.")
description_option = click.option("--description")
remote_option = click.option(
    "--remote", "remotes", multiple=True, metavar="URL", help="A git remote; may be given several times."
)
branch_option = click.option("--branch", help="The default branch.")
stack_option = click.option(
    "--stack", "stacks", multiple=True, help="What it is made of, whatever is detected; may be given several times."
)


@click.group()
def project() -> None:
    """List, begin, look at, change and delete projects.

    Exit codes: 0 ok, 1 refused, 2 wrong command line, 3 the service cannot be reached.
    """


@project.command("list")
@organization_option
@click.option("--stack", help="Only those made of it.")
@click.option("--as-of", help="As it was at this position or time.")
@limit_option
@click.option("--json", "as_json", is_flag=True, help="The service's objects, one per line.")
def list_command(organization: str | None, limit: int, as_json: bool, **filters: str | None) -> None:
    """Show projects by name."""
    with open_client(organization) as client:
        found = list(pages(client, "/projects", limit, **filters))
    show_all(found, LISTED, as_json=as_json, empty="no projects")


@project.command("create")
@click.argument("name")
@organization_option
@slug_option
@description_option
@remote_option
@branch_option
@stack_option
@json_option
def create_command(
    name: str,
    organization: str | None,
    slug: str | None,
    description: str | None,
    remotes: tuple[str, ...],
    branch: str | None,
    stacks: tuple[str, ...],
    as_json: bool,
) -> None:
    """Begin a project called NAME."""
    body = changes(
        name=name,
        slug=slug,
        description=description,
        git_remotes=list(remotes) or None,
        default_branch=branch,
        stacks=list(stacks) or None,
    )
    with open_client(organization) as client:
        show(ask(client, "POST", client.path("/projects"), body), FIELDS, as_json=as_json)


@project.command("info")
@click.argument("slug")
@organization_option
@click.option("--as-of", help="As it was at this position or time.")
@json_option
def info_command(slug: str, organization: str | None, as_of: str | None, as_json: bool) -> None:
    """Show the project SLUG (or id)."""
    with open_client(organization) as client:
        path = client.with_query(_path(client, slug), {"as_of": as_of})
        show(ask(client, "GET", path), FIELDS, as_json=as_json)


@project.command("update")
@click.argument("slug")
@organization_option
@name_option
@click.option("--new-slug", help="The old one is free for others at once.")
@description_option
@remote_option
@branch_option
@stack_option
@click.option("--detect", is_flag=True, help="Forget what --stack said: what is detected counts again.")
@json_option
def update_command(
    slug: str,
    organization: str | None,
    name: str | None,
    new_slug: str | None,
    description: str | None,
    remotes: tuple[str, ...],
    branch: str | None,
    stacks: tuple[str, ...],
    detect: bool,
    as_json: bool,
) -> None:
    """Change the project SLUG (or id): what is given; the rest stays.  --remote and --stack name all of them."""
    if detect and stacks:
        raise click.UsageError("--detect and --stack contradict each other")
    given = {
        "name": name,
        "slug": new_slug,
        "description": description,
        "git_remotes": list(remotes) or None,
        "default_branch": branch,
        "stacks": list(stacks) or None,
    }
    body = (
        {"stacks": None} | {key: value for key, value in given.items() if value is not None}
        if detect
        else changes(**given)
    )
    with open_client(organization) as client:
        show(ask(client, "PATCH", _path(client, slug), body), FIELDS, as_json=as_json)


@project.command("delete")
@click.argument("slug")
@organization_option
@click.option("--confirm", metavar="SLUG", help="Its slug, instead of being asked.")
@json_option
def delete_command(slug: str, organization: str | None, confirm: str | None, as_json: bool) -> None:
    """Hide the project SLUG (or id).  Staff can restore it for 90 days, then it is gone."""
    with open_client(organization) as client:
        path = _path(client, slug)
        found = ask(client, "GET", path)
        known = found["slug"]
        ask(client, "DELETE", path, {"confirm": typed_slug(confirm, known, f"project {known}")})
    told_done({"deleted": known, "project_id": found["project_id"]}, f"Deleted project {known}", as_json)


def _path(client: Client, slug: str) -> str:
    return client.path(f"/projects/{quote(slug, safe='')}")
