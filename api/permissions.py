"""Who may call what: every route of the API, in one table.  The application does not start when a route is missing here.

Scopes belong to API keys, permissions to members who are signed in.  A caller of another organization than the path's gets
404, whichever way they came.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from litestar.routes import ASGIRoute, HTTPRoute
from litestar.routes.base import BaseRoute

# What a member may do, from the most to the least.
PERMISSIONS = ("owner", "admin", "manager", "developer", "viewer")
PLATFORM_ROLES = ("crewkit_owner", "crewkit_staff", "org_user")

# What a member's permission amounts to for code that asks for scopes.
SCOPES_OF_PERMISSION: dict[str, frozenset[str]] = {
    "owner": frozenset({"ingest", "read", "audit", "admin"}),
    "admin": frozenset({"ingest", "read", "audit", "admin"}),
    "manager": frozenset({"ingest", "read"}),
    "developer": frozenset({"ingest", "read"}),
    "viewer": frozenset({"read"}),
}


class Access(msgspec.Struct, frozen=True):
    """Who may call a route; nothing named: everybody.

    `scopes`: an API key needs one of them.  `permission`: a signed-in member needs at least this one in the organization of
    the path (or of `X-Organization`).  `platform`: a signed-in user needs at least this rank.  `user`: any signed-in user.
    `loopback` lets callers on the same machine in without any of it.  `guessable`: callers try secrets here, so that each
    address gets few tries a minute.
    """

    scopes: frozenset[str] = frozenset()
    loopback: bool = False
    permission: str | None = None
    platform: str | None = None
    user: bool = False
    guessable: bool = False

    @property
    def public(self) -> bool:
        """Whether nobody is asked who they are."""
        return not (self.scopes or self.permission or self.platform or self.user)


def at_least(held: str | None, needed: str, ranks: tuple[str, ...]) -> bool:
    """Whether `held` is `needed` or stands before it in `ranks`."""
    return held in ranks and ranks.index(held) <= ranks.index(needed)


PUBLIC = Access()
SIGN_IN = Access(guessable=True)
SIGNED_IN = Access(user=True)
INGEST = Access(frozenset({"ingest"}), permission="developer")
READ = Access(frozenset({"read"}), permission="viewer")
HISTORY = Access(frozenset({"read", "audit"}), permission="viewer")
AUDIT = Access(frozenset({"audit"}), permission="admin")
ADMIN = Access(frozenset({"admin"}), permission="admin")
MANAGER = Access(frozenset({"admin"}), permission="manager")
LEAVING = Access(frozenset({"admin"}), permission="viewer")  # everybody may leave; removing others is decided by rank
ROLE = Access(frozenset({"ingest", "read"}), permission="viewer")
FEEDBACK = ROLE  # whoever sees a session may say how it went, and so may an agent for its person
STACKS = Access(frozenset({"ingest", "read"}), user=True)
OWNER = Access(permission="owner")  # no key is ever an owner
# The same right, decided by rank: whoever repeats a transfer, because its answer was lost, is no owner any more.
TRANSFER = Access(permission="viewer")
ERASING = Access(frozenset({"admin"}), permission="owner")  # for ever: of members only those who answer for all of it
EXPORT = Access(frozenset({"read"}), permission="manager")  # everybody's rows in one file, to take along
STAFF = Access(platform="crewkit_staff")
OPERATOR = Access(frozenset({"admin"}), loopback=True)

_T = "/api/v1/{organization_id}"
_O = "/api/v1/organizations/{organization_id}"
_A = "/api/v1/auth"

TABLE: dict[tuple[str, str], Access] = {
    # service
    ("GET", "/health"): PUBLIC,
    ("GET", "/api/health"): PUBLIC,
    ("GET", "/health/live"): PUBLIC,
    ("GET", "/health/ready"): PUBLIC,
    ("GET", "/metrics"): OPERATOR,
    ("GET", "/docs"): PUBLIC,
    ("GET", "/docs/{path}"): PUBLIC,
    ("GET", "/docs/openapi.json"): PUBLIC,
    ("GET", "/docs/page"): PUBLIC,
    ("GET", "/schema/openapi.json"): PUBLIC,
    # signing in
    ("GET", "/.well-known/jwks.json"): PUBLIC,
    ("POST", f"{_A}/register"): SIGN_IN,
    ("POST", f"{_A}/login"): SIGN_IN,
    ("POST", f"{_A}/password/forgot"): SIGN_IN,
    ("POST", f"{_A}/password/reset"): SIGN_IN,
    ("POST", f"{_A}/password/change"): SIGNED_IN,
    ("POST", f"{_A}/email/verify"): SIGN_IN,
    ("POST", f"{_A}/magic_link"): SIGN_IN,
    ("POST", f"{_A}/magic_link/verify"): SIGN_IN,
    ("POST", f"{_A}/device"): SIGN_IN,
    ("POST", "/auth/device"): SIGN_IN,
    ("POST", f"{_A}/token"): PUBLIC,
    ("POST", "/auth/token"): PUBLIC,
    ("POST", f"{_A}/device/verify"): Access(user=True, guessable=True),
    ("POST", f"{_A}/passkey/login/challenge"): SIGN_IN,
    ("POST", f"{_A}/passkey/login"): SIGN_IN,
    ("POST", f"{_A}/passkey/register/challenge"): SIGNED_IN,
    ("POST", f"{_A}/passkey/register"): SIGNED_IN,
    ("GET", f"{_A}/passkeys"): SIGNED_IN,
    ("DELETE", f"{_A}/passkeys/{{passkey_id}}"): SIGNED_IN,
    ("POST", f"{_A}/refresh"): PUBLIC,
    ("POST", f"{_A}/revoke"): SIGNED_IN,
    ("DELETE", f"{_A}/logout"): SIGNED_IN,
    ("GET", f"{_A}/me"): SIGNED_IN,
    ("PATCH", f"{_A}/me"): SIGNED_IN,
    ("DELETE", f"{_A}/me"): SIGNED_IN,
    ("POST", f"{_A}/me/export"): SIGNED_IN,
    ("GET", f"{_A}/me/export/{{export_id}}"): SIGNED_IN,
    ("POST", f"{_A}/complete_profile"): SIGNED_IN,
    ("GET", f"{_A}/organizations"): SIGNED_IN,
    ("GET", f"{_A}/activity"): SIGNED_IN,
    # pages: they read the session cookie themselves, and send people without one to /login
    ("GET", "/login"): PUBLIC,
    ("POST", "/login"): SIGN_IN,
    ("POST", "/login/link"): SIGN_IN,
    ("POST", "/login/passkey"): SIGN_IN,
    ("GET", "/login/magic"): PUBLIC,
    ("POST", "/login/magic"): SIGN_IN,
    ("GET", "/login/verify"): PUBLIC,
    ("POST", "/login/verify"): SIGN_IN,
    ("GET", "/login/forgot"): PUBLIC,
    ("POST", "/login/forgot"): SIGN_IN,
    ("GET", "/login/reset"): PUBLIC,
    ("POST", "/login/reset"): SIGN_IN,
    ("GET", "/login/register"): PUBLIC,
    ("POST", "/login/register"): SIGN_IN,
    ("POST", "/logout"): PUBLIC,
    ("GET", "/device"): PUBLIC,
    ("POST", "/device"): SIGN_IN,
    ("GET", "/invitation"): PUBLIC,
    ("POST", "/invitation"): SIGN_IN,
    ("GET", "/passkeys"): PUBLIC,
    ("POST", "/passkeys/remove"): PUBLIC,
    ("GET", "/assets/{name}"): PUBLIC,
    # the agent's side: three channels
    ("POST", f"{_T}/observability/events"): INGEST,
    ("POST", f"{_T}/observability/sessions/{{session_id}}/events"): INGEST,
    ("POST", "/observability/sessions/{session_id}/events"): INGEST,
    ("POST", "/hooks/{agent}"): INGEST,
    ("POST", f"{_T}/observability/sessions"): INGEST,
    ("POST", f"{_T}/observability/sessions/{{session_id}}/end"): INGEST,
    ("POST", f"{_T}/observability/llm_sessions/{{llm_session_id}}/items"): INGEST,
    ("POST", "/llm_sessions/{llm_session_id}/items"): INGEST,
    ("POST", f"{_T}/observability/items"): INGEST,
    ("POST", "/v1/logs"): INGEST,
    ("POST", "/v1/metrics"): INGEST,
    ("POST", "/v1/traces"): INGEST,
    # sessions
    ("GET", f"{_T}/sessions"): READ,
    ("GET", f"{_T}/dashboard/sessions/history"): READ,
    ("GET", f"{_T}/dashboard/session/current"): READ,
    ("GET", "/api/v2/dashboard/session/current"): READ,
    ("POST", f"{_T}/sessions/{{session_id}}/reset"): INGEST,
    ("POST", "/api/v2/sessions/{session_id}/reset"): INGEST,
    ("GET", "/api/v2/dashboard/sessions/history"): READ,
    ("GET", f"{_T}/sessions/live"): READ,
    ("GET", f"{_T}/sessions/analytics/summary"): READ,
    ("GET", f"{_T}/sessions/analytics/timeseries"): READ,
    ("GET", f"{_T}/sessions/analytics/success-trend"): READ,
    ("GET", f"{_T}/sessions/analytics/by-agent"): READ,
    ("GET", f"{_T}/sessions/analytics/by-user"): READ,
    ("GET", f"{_T}/sessions/analytics/by-project"): READ,
    ("GET", f"{_T}/sessions/analytics/coaching"): READ,
    ("GET", f"{_T}/sessions/analytics/cost-breakdown"): READ,
    ("GET", f"{_T}/sessions/summary/weekly"): READ,
    ("GET", "/api/v2/sessions/summary/weekly"): READ,
    ("GET", f"{_T}/analytics/costs/by-tool"): READ,
    ("GET", f"{_T}/analytics/costs/by-subagent"): READ,
    ("GET", "/api/analytics/costs/by-subagent"): READ,
    ("GET", f"{_T}/analytics/costs/histogram"): READ,
    ("GET", "/api/analytics/costs/histogram"): READ,
    ("GET", f"{_T}/analytics/conversations"): READ,
    ("GET", "/api/analytics/conversations"): READ,
    ("GET", f"{_T}/ledger"): READ,
    ("GET", "/api/ledger"): READ,
    ("GET", f"{_T}/ledger/export"): READ,
    ("GET", "/api/ledger/export"): READ,
    ("GET", f"{_T}/conversations/{{conversation_id}}/llm-calls"): READ,
    ("GET", "/conversations/{conversation_id}/llm-calls"): READ,
    ("GET", f"{_T}/contract_discounts"): READ,
    ("POST", f"{_T}/contract_discounts"): ADMIN,
    ("PUT", f"{_T}/contract_discounts/{{discount_id}}"): ADMIN,
    ("DELETE", f"{_T}/contract_discounts/{{discount_id}}"): ADMIN,
    ("GET", f"{_T}/analytics/summary"): READ,
    ("GET", "/api/analytics/summary"): READ,
    ("GET", f"{_T}/sessions/{{session_id}}"): READ,
    ("GET", "/api/v2/sessions/{session_id}"): READ,
    ("GET", f"{_T}/sessions/{{session_id}}/hierarchy"): READ,
    ("GET", f"{_T}/sessions/{{session_id}}/insights"): READ,
    ("POST", f"{_T}/sessions/{{session_id}}/feedback"): FEEDBACK,
    ("GET", f"{_T}/sessions/{{session_id}}/live"): READ,
    ("GET", f"{_T}/observability/sessions/{{session_id}}/live"): READ,
    ("GET", "/sessions/{session_id}/live"): READ,
    ("GET", f"{_T}/sessions/{{session_id}}/status"): READ,
    ("GET", "/api/v2/sessions/{session_id}/status"): READ,
    ("GET", f"{_T}/observability/llm_sessions/{{llm_session_id}}/items"): READ,
    ("GET", "/llm_sessions/{llm_session_id}/items"): READ,
    ("GET", f"{_T}/observability/subagent_sessions/{{subagent_session_id}}/items"): READ,
    ("GET", f"{_T}/subagents/active"): READ,
    ("GET", "/api/v2/subagents/active"): READ,
    ("GET", f"{_T}/subagents/{{subagent_id}}"): READ,
    ("GET", "/api/v2/subagents/{subagent_id}"): READ,
    # live
    ("GET", f"{_T}/sessions/{{session_id}}/events/stream"): READ,
    ("GET", f"{_T}/events/stream"): READ,
    ("GET", f"{_T}/workflows/{{workflow_id}}/events"): READ,
    ("GET", f"{_T}/workflows/{{workflow_id}}/events/stream"): READ,
    ("GET", "/events/workflows/{workflow_id}"): READ,
    ("GET", "/events/workflows/{workflow_id}/stream"): READ,
    ("WS", "/ws/workflows/{workflow_id}"): READ,
    ("GET", f"{_T}/logs/stream"): READ,
    ("GET", "/api/logs/stream"): READ,
    ("WS", "/ws/{session_id}"): READ,
    # history
    ("GET", f"{_T}/events"): HISTORY,
    ("GET", f"{_T}/events/{{event_id}}"): HISTORY,
    ("GET", f"{_T}/audit_logs"): AUDIT,
    ("GET", f"{_T}/audit_logs/{{event_id}}"): AUDIT,
    ("GET", f"{_T}/audit_logs/actions"): AUDIT,
    ("GET", f"{_T}/audit_logs/resource_types"): AUDIT,
    # administration
    ("GET", "/api/v1/admin/users"): STAFF,
    ("GET", "/api/v1/admin/users/{user_id}"): STAFF,
    ("PATCH", "/api/v1/admin/users/{user_id}"): STAFF,
    ("POST", "/api/v1/admin/users/{user_id}/disable"): STAFF,
    ("POST", "/api/v1/admin/users/{user_id}/enable"): STAFF,
    ("POST", "/api/v1/admin/users/{user_id}/erase"): STAFF,
    ("GET", "/api/v1/admin/certificates"): STAFF,
    ("GET", "/api/v1/admin/certificates/{erasure_id}"): STAFF,
    ("GET", "/api/v1/admin/organizations"): STAFF,
    ("GET", "/api/v1/admin/organizations/{organization_id}"): STAFF,
    ("DELETE", "/api/v1/admin/organizations/{organization_id}"): STAFF,
    ("POST", "/api/v1/admin/organizations/{organization_id}/restore"): STAFF,
    ("POST", "/api/v1/admin/projects/{project_id}/restore"): STAFF,
    ("GET", "/api/v1/admin/audit_logs"): STAFF,
    ("GET", "/api/v1/admin/audit_logs/{event_id}"): STAFF,
    ("GET", "/api/v1/admin/audit_logs/actions"): STAFF,
    ("GET", "/api/v1/admin/audit_logs/resource_types"): STAFF,
    ("GET", "/api/v1/admin/events"): STAFF,
    ("GET", "/api/v1/admin/events/{event_id}"): STAFF,
    ("GET", "/api/v1/admin/events/event_types"): STAFF,
    ("GET", "/api/v1/admin/events/aggregate_types"): STAFF,
    ("GET", "/api/v1/admin/stats"): STAFF,
    ("GET", "/api/v1/admin/stats/users"): STAFF,
    ("GET", "/api/v1/admin/stats/organizations"): STAFF,
    ("GET", "/api/v1/admin/stats/activity"): STAFF,
    # proof
    ("GET", f"{_T}/audit/checkpoints"): AUDIT,
    ("GET", f"{_T}/audit/checkpoints/{{number}}"): AUDIT,
    ("GET", f"{_T}/audit/consistency"): AUDIT,
    ("GET", f"{_T}/audit/events/{{event_id}}/proof"): AUDIT,
    ("GET", f"{_T}/audit/export"): AUDIT,
    ("GET", f"{_T}/audit/certificates"): AUDIT,
    ("GET", f"{_T}/audit/certificates/{{erasure_id}}"): AUDIT,
    # exports of analytics rows
    ("POST", f"{_T}/exports"): EXPORT,
    ("GET", f"{_T}/exports"): EXPORT,
    ("GET", f"{_T}/exports/{{export_id}}"): EXPORT,
    ("GET", f"{_T}/exports/{{export_id}}/download"): EXPORT,
    ("DELETE", f"{_T}/exports/{{export_id}}"): EXPORT,
    # people
    ("GET", f"{_T}/people"): AUDIT,
    ("POST", f"{_T}/people/{{person_id}}/erase"): ERASING,
    ("POST", f"{_T}/people/{{person_id}}/export"): ADMIN,
    ("GET", f"{_T}/data_exports"): ADMIN,
    ("GET", f"{_T}/data_exports/{{export_id}}"): ADMIN,
    ("GET", f"{_T}/data_exports/{{export_id}}/download"): ADMIN,
    ("DELETE", f"{_T}/data_exports/{{export_id}}"): ADMIN,
    # organizations
    ("POST", "/api/v1/organizations"): SIGNED_IN,
    ("POST", "/orgs"): SIGNED_IN,
    ("GET", "/api/v1/organizations"): Access(frozenset({"read"}), user=True),
    ("GET", "/api/v1/organizations/slug-available"): Access(frozenset({"read"}), user=True),
    ("GET", "/api/v1/organizations/{organization_id}"): READ,
    ("PATCH", "/api/v1/organizations/{organization_id}"): ADMIN,
    ("DELETE", "/api/v1/organizations/{organization_id}"): OWNER,
    # members and working roles
    ("GET", f"{_T}/members"): READ,
    ("GET", f"{_O}/members"): READ,
    ("GET", f"{_T}/members/{{user_id}}"): READ,
    ("GET", f"{_O}/members/{{user_id}}"): READ,
    ("PATCH", f"{_T}/members/{{user_id}}"): MANAGER,
    ("PATCH", f"{_O}/members/{{user_id}}"): MANAGER,
    ("DELETE", f"{_T}/members/{{user_id}}"): LEAVING,
    ("DELETE", f"{_O}/members/{{user_id}}"): LEAVING,
    ("POST", f"{_T}/members/{{user_id}}/transfer_ownership"): TRANSFER,
    ("POST", f"{_O}/members/{{user_id}}/transfer_ownership"): TRANSFER,
    ("POST", f"{_T}/members/invitations"): MANAGER,
    ("POST", f"{_O}/members/invitations"): MANAGER,
    ("GET", f"{_T}/members/invitations"): MANAGER,
    ("GET", f"{_O}/members/invitations"): MANAGER,
    ("DELETE", f"{_T}/members/invitations/{{token}}"): MANAGER,
    ("DELETE", f"{_O}/members/invitations/{{token}}"): MANAGER,
    ("POST", f"{_T}/members/invitations/{{token}}/resend"): MANAGER,
    ("POST", f"{_O}/members/invitations/{{token}}/resend"): MANAGER,
    ("GET", "/api/v1/invitations/{token}"): PUBLIC,
    ("POST", "/api/v1/invitations/{token}/accept"): SIGNED_IN,
    ("POST", "/api/v1/invitations/{token}/decline"): SIGNED_IN,
    ("GET", f"{_T}/roles"): READ,
    ("POST", f"{_T}/roles"): ADMIN,
    ("GET", f"{_T}/roles/{{role_id}}"): READ,
    ("PATCH", f"{_T}/roles/{{role_id}}"): ADMIN,
    ("DELETE", f"{_T}/roles/{{role_id}}"): ADMIN,
    ("GET", f"{_T}/effective-role"): ROLE,
    ("GET", f"{_O}/effective-role"): ROLE,
    # projects
    ("POST", f"{_T}/projects"): MANAGER,
    ("POST", "/orgs/{organization_id}/projects"): MANAGER,
    ("GET", f"{_T}/projects"): READ,
    ("GET", f"{_T}/projects/slug-available"): READ,
    ("GET", f"{_T}/projects/{{project_id}}"): READ,
    ("GET", "/orgs/{organization_id}/projects/{project_id}"): READ,
    ("PATCH", f"{_T}/projects/{{project_id}}"): MANAGER,
    ("DELETE", f"{_T}/projects/{{project_id}}"): ADMIN,
    ("POST", "/api/v1/projects/resolve"): ROLE,
    ("POST", "/projects/resolve"): ROLE,
    ("GET", "/api/v1/framework_stacks"): STACKS,
    ("GET", "/api/v1/framework_stacks/{slug}"): STACKS,
    # keys
    ("POST", f"{_T}/api_keys"): ADMIN,
    ("GET", f"{_T}/api_keys"): ADMIN,
    ("DELETE", f"{_T}/api_keys/{{key_id}}"): ADMIN,
}


class PermissionTableError(RuntimeError):
    """The table and the routes do not match: fix api/permissions.py before serving anything."""


def operations(routes: Iterable[BaseRoute]) -> list[tuple[str, str]]:
    """Every `(method, path)` that is served, without the generated OPTIONS.  Mounted applications show as `("*", path)`."""
    found: list[tuple[str, str]] = []
    for route in routes:
        if isinstance(route, HTTPRoute):
            found += [(method, route.path_format) for method in sorted(route.methods) if method != "OPTIONS"]
        elif isinstance(route, ASGIRoute):
            found.append(("*", route.path_format))
        else:
            found.append(("WS", route.path_format))
    return sorted(set(found))


def check(routes: Iterable[BaseRoute], table: dict[tuple[str, str], Access] = TABLE) -> None:
    """Compare the table with the routes.

    Raises:
        PermissionTableError: a route has no entry.
    """
    missing = [f"{method} {path}" for method, path in operations(routes) if (method, path) not in table]
    if missing:
        raise PermissionTableError("no permission entry for: " + ", ".join(missing))
