"""What comes due in organizations: invitations expire, broken-off joinings are finished, deleted organizations end."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import structlog

from commands import invitations as inviting
from commands.bus import Principal, load
from commands.projects import purge_project
from commands.tenants import purge_organization
from domain.invitations.decide import NO_INVITATION, Invitation, evolve, invitation_stream
from domain.kernel import DomainError
from domain.organizations.manage import KEEP_DELETED
from eventstore.database import Pool
from eventstore.objects import ObjectRefusedError, Objects, ObjectsUnavailableError
from eventstore.postgres import PostgresStore
from projections import invitations, projects, tenants

log = structlog.get_logger("scheduler")

ACTOR = "system:scheduler"
NOBODY = UUID(int=0)
JOINING_FOR = timedelta(seconds=30)  # younger ones are still being worked on by who accepted
ROWS_MAX = 10_000  # rows of one table deleted in one run
FOLDERS = ("exports", "items")  # of the object store, with a folder per organization in each

_TABLES = """
SELECT c.relname AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id'
 WHERE c.relnamespace = 'crewkit'::regnamespace AND c.relkind = 'r' AND c.relname ~ '__g[0-9]+$'
   AND c.relname !~ '^(tenant|organization)__g' ORDER BY c.relname
"""
_KEYS = """
UPDATE crewkit.subject_key SET wrapped = NULL, destroyed_at = clock_timestamp()
 WHERE org_id = $1 AND wrapped IS NOT NULL
"""


def system(org_id: UUID) -> Principal:
    """The scheduler, acting in an organization."""
    return Principal(actor=ACTOR, org_id=org_id, person_id=NOBODY, scopes=frozenset())


async def now_and_readable(pool: Pool, table: str) -> datetime | None:
    """The database's clock, or None where no projector has made the table yet."""
    async with pool.acquire() as connection:
        if await connection.fetchval("SELECT to_regclass($1)", f"crewkit.{table}") is None:
            return None
        moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
        return moment


async def expire_invitations(pool: Pool, store: PostgresStore) -> int:
    """Tell that nobody took an invitation in time."""
    if (now := await now_and_readable(pool, "invitation")) is None:
        return 0
    async with pool.acquire() as connection:
        due = await invitations.due_to_expire(connection, now)
    noted = 0
    for org_id, invitation_id in due:
        noted += await inviting.expire(store, system(org_id), invitation_id, at=now) is not None
    return noted


async def finish_joinings(pool: Pool, store: PostgresStore) -> int:
    """Make those members whose acceptance is on record and whose joining broke off."""
    now = await now_and_readable(pool, "invitation")
    if now is None or await now_and_readable(pool, "member") is None:
        return 0
    async with pool.acquire() as connection:
        due = await invitations.broken_off(connection, now - JOINING_FOR)
    joined = 0
    for org_id, invitation_id, user_id in due:
        state = (await load(store, org_id, invitation_stream(invitation_id), evolve, NO_INVITATION))[0]
        if not isinstance(state, Invitation):
            continue
        try:
            outcome = await inviting.join(store, store.mapper.ring, system(org_id), state, user_id)
        except DomainError as refused:  # a full or deleted organization: the next run looks again
            log.info("scheduler.not_joined", org=str(org_id), code=refused.code)
            continue
        joined += outcome is not None
    return joined


async def purge_organizations(pool: Pool, store: PostgresStore, objects: Objects) -> int:
    """End organizations that were deleted long enough ago: the fact, then keys of their people, rows, and stored objects.

    Destroying is repeated until nothing is left, so that a crash half-way costs nothing.
    """
    if (now := await now_and_readable(pool, "tenant")) is None:
        return 0
    async with pool.acquire() as connection:
        due = await tenants.due_for_purge(connection, now - KEEP_DELETED)
        gone = await tenants.to_be_emptied(connection)
    done = 0
    for org_id in due:
        try:
            done += await purge_organization(store, system(org_id), at=now) is not None
        except DomainError as refused:  # restored a moment ago
            log.info("scheduler.not_purged", org=str(org_id), code=refused.code)
            continue
        gone.append(org_id)
    for org_id in dict.fromkeys(gone):
        done += await _erase(pool, org_id)
    try:
        for org_id in dict.fromkeys(gone):
            done += await _drop_objects(objects, org_id)
    except (ObjectsUnavailableError, ObjectRefusedError) as error:
        log.warning("scheduler.objects_not_dropped", error=str(error))
    return done


async def _drop_objects(objects: Objects, org_id: UUID) -> int:
    """Delete what is stored for an organization, whatever read models know of it; how many objects went."""
    keys = [key for folder in FOLDERS for key in await objects.keys(f"{folder}/{org_id}")]
    for key in keys:
        await objects.delete(key)
    return len(keys)


async def purge_projects(pool: Pool, store: PostgresStore) -> int:
    """End projects that were deleted long enough ago."""
    if (now := await now_and_readable(pool, "project")) is None:
        return 0
    async with pool.acquire() as connection:
        due = await projects.due_for_purge(connection, now - KEEP_DELETED)
    done = 0
    for org_id, project_id in due:
        try:
            done += await purge_project(store, system(org_id), project_id, at=now) is not None
        except DomainError as refused:  # restored a moment ago
            log.info("scheduler.not_purged", org=str(org_id), project=str(project_id), code=refused.code)
    return done


async def _erase(pool: Pool, org_id: UUID) -> int:
    """How many keys and rows went."""
    async with pool.acquire() as connection:
        count = _affected(await connection.execute(_KEYS, org_id))
        for row in await connection.fetch(_TABLES):
            name = f'crewkit."{row["name"]}"'
            count += _affected(
                await connection.execute(
                    f"DELETE FROM {name} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {name} WHERE org_id = $1 LIMIT $2))",  # noqa: S608
                    org_id,
                    ROWS_MAX,
                )
            )
    return count


def _affected(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
