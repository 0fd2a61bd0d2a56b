"""Who belongs to which organization and what they may do there: asked by the guard on every request of a user."""

from projections.members.fold import MEMBERS, ORG_ROLES, PROJECTION, TENANTS, MemberRow, OrgRoleRow, TenantRow
from projections.members.queries import Membership, find_membership, organizations_ever, organizations_of

__all__ = [
    "MEMBERS",
    "ORG_ROLES",
    "PROJECTION",
    "TENANTS",
    "MemberRow",
    "Membership",
    "OrgRoleRow",
    "TenantRow",
    "find_membership",
    "organizations_ever",
    "organizations_of",
]
