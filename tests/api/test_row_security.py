"""What the database itself keeps apart, whatever a query forgets: looked up in its catalogue, over every table there is."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.database import API_ROLE, WORKER_ROLE, Pool, connect_pool, tenant
from tests.api.house import House

# Policies that look at something else than the organization of the transaction; each has its reason where it is made.
OTHER_WAYS_TO_SEE = {
    ("api_key", "authentication"): "crewkit.key_id",
    ("invitation", "bearer"): "crewkit.token_sha256",
    ("member", "oneself"): "crewkit.user_id",
    ("tenant", "own_memberships"): "crewkit.user_id",
}
# Tables that the API may read and that know no organization: progress, the shape of the log, sums over all for /metrics.
NOBODYS = {"analytics_replica", "checkpoint", "consolidation_total", "leaf", "projection", "reactor", "relay"}

_TABLES = """
SELECT c.relname AS name, c.relkind::text AS kind, c.relrowsecurity AS secured, c.relispartition AS part,
       pg_has_role($1, c.relowner, 'MEMBER') AS owned,
       has_table_privilege($1, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') AS open,
       has_any_column_privilege($1, c.oid, 'SELECT, INSERT, UPDATE') AS open_columns,
       coalesce('security_invoker=true' = ANY (c.reloptions), false) AS as_caller,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id') AS tenants
  FROM pg_class c
 WHERE c.relnamespace = 'crewkit'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
 ORDER BY c.relname
"""
_POLICIES = """
SELECT tablename AS name, policyname AS policy, qual, with_check FROM pg_policies
 WHERE schemaname = 'crewkit' AND $1 = ANY (roles) OR 'public' = ANY (roles)
"""


@pytest.fixture
async def owner(house: House) -> Any:
    pool = await connect_pool(house.settings.database_url or "", None, max_size=1)
    yield pool
    await pool.close()


@pytest.fixture
async def as_api(house: House) -> Any:
    pool = await connect_pool(house.settings.database_url or "", API_ROLE, max_size=1)
    yield pool
    await pool.close()


def plain(name: str) -> str:
    """The read model's name, whatever its generation."""
    return name.partition("__g")[0]


async def unsafe(owner: Pool) -> list[str]:
    """Tables of tenants that the API's role could read across tenants."""
    found: list[str] = []
    policies = await owner.fetch(_POLICIES, API_ROLE)
    for table in await owner.fetch(_TABLES, API_ROLE):
        name, reachable = table["name"], table["open"] or table["open_columns"]
        if table["owned"]:
            found.append(f"{name} is owned by {API_ROLE}")
        if not reachable:
            continue
        if table["kind"] in "vm":
            if table["kind"] == "m" or not table["as_caller"]:
                found.append(f"{name} shows what its owner sees")
            continue
        if not table["tenants"]:
            if plain(name) not in NOBODYS and not name.startswith("proof_"):
                found.append(f"{name} can be read and knows no organization")
            continue
        own = [one for one in policies if one["name"] == name]
        if not table["secured"] or not own:
            found.append(f"{name} has no row-level security for {API_ROLE}")
        for one in own:
            told = f"{one['qual']} {one['with_check']}"
            wanted = OTHER_WAYS_TO_SEE.get((plain(name), one["policy"]), "(org_id = current_org())")
            if wanted not in told.replace("crewkit.current_org", "current_org"):
                found.append(f"{name}: policy {one['policy']} says {told}")
    return found


async def test_every_table_of_tenants_is_kept_apart_by_the_database(house: House, owner: Pool) -> None:
    tables = [one for one in await owner.fetch(_TABLES, API_ROLE) if one["tenants"] and one["kind"] in "rp"]
    assert len(tables) > 20, "read models have been made"
    found = await unsafe(owner)
    assert found == [], "\n".join(found)


@pytest.mark.parametrize(
    ("statement", "seen"),
    [
        ("ALTER TABLE crewkit.event DISABLE ROW LEVEL SECURITY", "event has no row-level security for crewkit_api"),
        ("CREATE TABLE crewkit.note (org_id uuid); GRANT SELECT ON crewkit.note TO crewkit_api", "note has no row"),
        ("CREATE TABLE crewkit.note (text text); GRANT SELECT ON crewkit.note TO crewkit_api", "knows no organization"),
        ("CREATE POLICY all_of_it ON crewkit.stream TO crewkit_api USING (true)", "stream: policy all_of_it says true"),
        ("CREATE VIEW crewkit.v AS TABLE crewkit.event; GRANT SELECT ON crewkit.v TO crewkit_api", "v shows what its"),
        ("ALTER TABLE crewkit.relay OWNER TO crewkit_api", "relay is owned by crewkit_api"),
    ],
)
async def test_a_planted_leak_is_found(house: House, owner: Pool, statement: str, seen: str) -> None:
    await owner.execute(statement)
    assert any(seen in line for line in await unsafe(owner))


async def test_no_role_of_ours_can_step_over_it(house: House, owner: Pool) -> None:
    for role in (API_ROLE, WORKER_ROLE):
        told = await owner.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = $1",
            role,
        )
        assert told is not None
        assert not any(told.values()), role
        assert await owner.fetch("SELECT FROM pg_auth_members WHERE member = $1::regrole", role) == []
    assert not await owner.fetchval("SELECT has_schema_privilege($1, 'crewkit', 'CREATE')", API_ROLE)


async def test_each_tenant_reads_its_own_rows_of_every_table_and_without_one_nothing(
    house: House, owner: Pool, as_api: Pool
) -> None:
    """Asked as the API asks, of every table and view that knows an organization."""
    seen = 0
    for table in await owner.fetch(_TABLES, API_ROLE):
        if not (table["tenants"] and table["open"]):
            continue
        counted = f'SELECT count(*) FROM crewkit."{table["name"]}"'
        assert await as_api.fetchval(counted) == 0, table["name"]
        for place in (house.ours, house.theirs):
            async with tenant(as_api, place.org_id) as connection:
                others = f"{counted} WHERE org_id IS DISTINCT FROM $1"
                assert await connection.fetchval(others, place.org_id) == 0, table["name"]
                seen += await connection.fetchval(counted)
    assert seen > 10, "there was something to see"
