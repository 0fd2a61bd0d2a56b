"""Odd requests about organizations, members, roles and projects: refused or answered, never a failure of ours."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.house import House
from tests.api.signing_in import bearer, join, signed_in

ODD_TEXTS = [
    "\x00",
    "a\x00b",
    "\ud7ff\ue000",
    "\U0001f600" * 50,
    "x" * 5_000,
    "%",
    "_",
    "\\",
    "'; --",
    "\u202e",
    "../..",
    "",
]
ODD_VALUES: list[Any] = [None, True, -1, 10**30, 1.5e308, [], {}, *ODD_TEXTS]
QUERIES = {
    "/members": ("permission", "org_role", "page", "page_size", "sort_by", "sort_dir", "as_of"),
    "/members/invitations": ("status", "page", "sort_by"),
    "/roles": ("page", "sort_by", "as_of"),
    "/projects": ("stack", "page", "page_size", "sort_by", "sort_dir", "as_of"),
    "/projects/slug-available": ("slug",),
    "/effective-role": ("user_id", "as_of"),
}
BODIES: dict[tuple[str, str], tuple[str, ...]] = {
    ("PATCH", "/api/v1/organizations/default"): ("name", "slug", "settings", "coaching_enforcement"),
    ("POST", "/api/v1/organizations"): ("name", "slug", "region"),
    ("POST", "/api/v1/default/roles"): ("key", "level", "custom_name", "coaching_mode_enabled", "tools"),
    ("PATCH", "/api/v1/default/roles/junior"): ("level", "custom_name", "coaching_mode_enabled", "tools"),
    ("POST", "/api/v1/default/members/invitations"): ("email", "permission", "org_role", "role"),
    ("POST", "/api/v1/default/projects"): ("name", "slug", "description", "git_remotes", "default_branch", "stacks"),
    ("POST", "/api/v1/projects/resolve"): ("git_remote", "stacks", "files", "manifests"),
}
NEEDED = {"name": "n", "key": "k", "email": "e@example.com", "git_remote": "a/b"}


@pytest.fixture
async def headers(house: House) -> dict[str, str]:
    pair = await signed_in(house)
    await join(house, house.ours, pair.user_id, "owner")
    return bearer(pair)


def failures(answers: list[tuple[str, httpx.Response]]) -> list[str]:
    return [f"{what}: {answer.status_code}" for what, answer in answers if answer.status_code >= 500]


async def test_odd_queries(http: httpx.AsyncClient, house: House, headers: dict[str, str]) -> None:
    seen: list[tuple[str, httpx.Response]] = []
    for path, names in QUERIES.items():
        for name in names:
            for odd in [*ODD_TEXTS, "9" * 18, "9" * 40, "-1", "2026-13-45", "0001-01-01T00:00:00+14:00", "nan"]:
                answer = await http.get(f"{house.ours.base}{path}", headers=headers, params={name: odd})
                seen.append((f"{path}?{name}={odd!r}", answer))
    assert failures(seen) == []


async def test_odd_paths(http: httpx.AsyncClient, house: House, headers: dict[str, str]) -> None:
    base, wishes = house.ours.base, list[tuple[str, str]]()
    for odd in ("%00", "a%00b", "%F0%9F%98%80", "%FF", "x" * 3_000, "%25", "%27", "..%2F..", "%20"):
        wishes += [
            ("GET", f"/api/v1/{odd}/members"),
            ("GET", f"/api/v1/organizations/{odd}"),
            ("GET", f"{base}/members/{odd}"),
            ("GET", f"{base}/roles/{odd}"),
            ("GET", f"{base}/projects/{odd}"),
            ("GET", f"{base}/projects/{odd}?as_of=1"),
            ("GET", f"/api/v1/invitations/{odd}"),
            ("GET", f"/api/v1/framework_stacks/{odd}"),
            ("POST", f"/api/v1/invitations/{odd}/accept"),
            ("POST", f"{base}/members/invitations/{odd}/resend"),
        ]
    seen = [
        (path, await http.request(method, path, headers=who))
        for method, path in wishes
        for who in (headers, house.ours.headers("all"))
    ]
    assert failures(seen) == []


async def test_odd_bodies(http: httpx.AsyncClient, house: House, headers: dict[str, str]) -> None:
    seen: list[tuple[str, httpx.Response]] = []
    for (method, path), names in BODIES.items():
        for name in names:
            for odd in [
                *ODD_VALUES,
                list(ODD_TEXTS),
                {"a": 10**30},
                {"a": "\x00"},
                {"Gemfile": "\x00"},
            ]:
                body = {given: value for given, value in NEEDED.items() if given in names} | {name: odd}
                seen.append(
                    (
                        f"{method} {path} {name}={odd!r}"[:120],
                        await http.request(method, path, headers=headers, json=body),
                    )
                )
    assert failures(seen) == []
    await house.project()  # whatever was accepted can be folded, and read
    for path in (
        "/api/v1/organizations",
        *(f"{house.ours.base}{path}" for path in ("/members", "/roles", "/projects", "/events")),
    ):
        assert (await http.get(path, headers=headers)).status_code == 200
