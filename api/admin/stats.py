"""The installation in numbers.  They tell nothing about any one organization or person, so nothing is noted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.params import QueryParameter

from api.admin.notes import BASE, AnyRequest
from api.answers import json_answer
from api.services import services_of
from projections.admin import stats
from projections.admin.stats import DAYS_MAX
from schemas.admin import ActivityDay, ActivityStats, OrganizationStats, PlatformStats, UserStats

Days = Annotated[int, QueryParameter(ge=1, le=DAYS_MAX, description="how many days, today included")]
PATH = f"{BASE}/stats"


@get(PATH, summary="The installation in numbers")
async def platform(request: AnyRequest) -> Response[PlatformStats]:
    """Users, organizations, and how long the log is."""
    services = services_of(request)
    users = await stats.user_numbers(services.pool)
    organizations = await stats.organization_numbers(services.pool)
    return json_answer(
        PlatformStats(
            users=users.total,
            active_users=users.active_users,
            organizations=organizations.total,
            organizations_by_status=organizations.by_status,
            events=await services.store.head(),
            links={
                "self": PATH,
                "users": f"{PATH}/users",
                "organizations": f"{PATH}/organizations",
                "activity": f"{PATH}/activity",
            },
        )
    )


@get(f"{PATH}/users", summary="Users in numbers")
async def users(request: AnyRequest) -> Response[UserStats]:
    """By status and rank, and how they sign in."""
    found = await stats.user_numbers(services_of(request).pool)
    return json_answer(UserStats(**msgspec.structs.asdict(found), links={"self": f"{PATH}/users"}))


@get(f"{PATH}/organizations", summary="Organizations in numbers")
async def organizations(request: AnyRequest) -> Response[OrganizationStats]:
    """By status and region."""
    found = await stats.organization_numbers(services_of(request).pool)
    return json_answer(OrganizationStats(**msgspec.structs.asdict(found), links={"self": f"{PATH}/organizations"}))


@get(f"{PATH}/activity", summary="What happened, day by day")
async def activity(request: AnyRequest, days: Days = 30) -> Response[ActivityStats]:
    """Registrations, logins, people who signed in, organizations founded, and events stored."""
    services = services_of(request)
    found = await stats.activity(services.pool, services.store, last=datetime.now(UTC).date(), days=days)
    items = [ActivityDay(**msgspec.structs.asdict(day)) for day in found]
    return json_answer(ActivityStats(items=items, links={"self": f"{PATH}/activity?days={days}"}))


HANDLERS = [platform, users, organizations, activity]
