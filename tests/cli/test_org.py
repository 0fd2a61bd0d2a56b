"""`crewkit org`, `members` and `project` against the real application: tables, JSON, confirmation and exit codes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from cli.capture.paths import ClientDir
from tests.api.conftest import app, house, live, master_key_file, postgres_url, settings
from tests.api.house import House, Live
from tests.api.signing_in import join, signed_in
from tests.cli.conftest import crewkit
from tests.cli.test_auth import keep

__all__ = ["app", "house", "live", "master_key_file", "postgres_url", "settings"]  # fixtures


class Desk:
    """A laptop whose owner is signed in as an owner of the organization."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def run(self, *words: str, check: int | None = 0) -> Any:
        done = await asyncio.to_thread(crewkit, *words, check=check, input="")
        await self.house.project()
        return done

    async def told(self, *words: str) -> Any:
        return json.loads((await self.run(*words, "--json")).stdout)

    async def lines(self, *words: str) -> list[Any]:
        return [json.loads(line) for line in (await self.run(*words, "--json")).stdout.splitlines()]


@pytest.fixture
async def desk(house: House, live: Live, paths: ClientDir, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    assert paths.home.is_dir()
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "owner")
    keep(live, pair)
    return Desk(house)


async def test_an_organization_is_shown_changed_and_deleted_with_its_slug_typed(desk: Desk) -> None:
    shown = (await desk.run("org", "info")).stdout
    assert "slug" in shown
    assert "Default" in shown
    changed = await desk.told("org", "update", "--name", "Acme", "--coaching", "hard", "--set", "theme=dark")
    assert (changed["name"], changed["coaching_enforcement"], changed["settings"]) == (
        "Acme",
        "hard",
        {"theme": "dark"},
    )
    assert (await desk.told("org", "update", "--set", "theme="))["settings"] == {}
    assert "say what to change" in (await desk.run("org", "update", check=2)).stderr
    assert "expected NAME=VALUE" in (await desk.run("org", "update", "--set", "theme", check=2)).stderr
    position = await desk.house.store.head()
    await desk.run("org", "update", "--name", "Later")
    assert (await desk.told("org", "info", "--as-of", str(position)))["name"] == "Acme"
    assert "--confirm default" in (await desk.run("org", "delete", check=2)).stderr, "nobody is there to ask"
    assert "confirmation_required" in (await desk.run("org", "delete", "--confirm", "other", check=1)).stderr
    assert (await desk.told("org", "delete", "--confirm", "default"))["deleted"] == "default"
    assert "404" in (await desk.run("org", "info", "--organization", "nowhere", check=1)).stderr


async def test_members_are_invited_listed_changed_and_removed(desk: Desk) -> None:
    invited = await desk.told("members", "invite", "bob@example.com", "--permission", "manager")
    assert (invited["email"], invited["permission"], invited["status"]) == ("bob@example.com", "manager", "pending")
    other = await signed_in(desk.house)
    await join(desk.house, desk.house.ours, other.user_id, "viewer")
    listed = await desk.lines("members", "list")
    assert len(listed) == 3
    assert [one["user_id"] for one in await desk.lines("members", "list", "--permission", "viewer")] == [
        str(other.user_id)
    ]
    assert len(await desk.lines("members", "list", "--limit", "1")) == 1
    assert "permission" in (await desk.run("members", "list")).stdout
    changed = await desk.told(
        "members", "update", str(other.user_id), "--permission", "developer", "--org-role", "junior"
    )
    assert (changed["permission"], changed["org_role"]) == ("developer", "junior")
    nobody = await desk.run("members", "update", "no@example.com", "--permission", "viewer", check=1)
    assert "no member has the address" in nobody.stderr
    assert "add --yes" in (await desk.run("members", "remove", str(other.user_id), check=2)).stderr
    removed = await desk.run("members", "remove", str(other.user_id), "--yes")
    assert removed.stdout == f"Removed {other.user_id}\n"
    assert len(await desk.lines("members", "list")) == 2
    assert "404" in (await desk.run("members", "remove", str(other.user_id), "--yes", check=1)).stderr
    assert (
        "Invalid value" in (await desk.run("members", "invite", "x@example.com", "--permission", "god", check=2)).stderr
    )


async def test_projects_are_begun_listed_changed_and_deleted(desk: Desk) -> None:
    made = await desk.told(
        "project",
        "create",
        "My App",
        "--remote",
        "git@github.com:acme/app.git",
        "--stack",
        "go",
        "--branch",
        "main",
    )
    assert (made["slug"], made["stacks"], made["git_remotes"]) == ("my-app", ["go"], ["github.com/acme/app"])
    assert [one["slug"] for one in await desk.lines("project", "list")] == ["my-app"]
    assert await desk.lines("project", "list", "--stack", "rails") == []
    assert "no projects" in (await desk.run("project", "list", "--stack", "rails")).stdout
    assert "github.com/acme/app" in (await desk.run("project", "info", "my-app")).stdout
    changed = await desk.told("project", "update", "my-app", "--name", "App", "--new-slug", "app")
    assert (changed["name"], changed["slug"], changed["stacks_source"]) == ("App", "app", "manual")
    assert (await desk.told("project", "update", "app", "--detect"))["manual_stacks"] is None
    both = await desk.run("project", "update", "app", "--detect", "--stack", "rails", check=2)
    assert "contradict" in both.stderr
    assert "--confirm app" in (await desk.run("project", "delete", "app", check=2)).stderr
    assert (await desk.run("project", "delete", "app", "--confirm", "app")).stdout == "Deleted project app\n"
    assert "404" in (await desk.run("project", "info", "app", check=1)).stderr


async def test_a_key_is_enough_where_nobody_is_signed_in(
    house: House, live: Live, paths: ClientDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paths.home.is_dir()
    monkeypatch.setenv("CREWKIT_URL", live.url)
    monkeypatch.setenv("CREWKIT_API_KEY", house.ours.keys["admin"])
    desk = Desk(house)
    assert (await desk.told("org", "update", "--name", "By key"))["name"] == "By key"
    monkeypatch.setenv("CREWKIT_API_KEY", house.ours.keys["read"])
    assert "403 forbidden" in (await desk.run("org", "update", "--name", "No", check=1)).stderr
    monkeypatch.setenv("CREWKIT_URL", "http://127.0.0.1:1")
    assert "Cannot reach" in (await desk.run("members", "list", check=3)).stderr
