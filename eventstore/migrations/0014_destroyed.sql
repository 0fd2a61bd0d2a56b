-- Which keys were destroyed lately?  What every process that holds copies of keys asks, in order to drop them
-- depends: 0012_subjects

-- migrate: apply

CREATE INDEX subject_key_destroyed ON crewkit.subject_key (destroyed_at) WHERE destroyed_at IS NOT NULL;

-- Ids, nothing else: a key ring holds keys of many organizations and asks for all of them at once.
CREATE FUNCTION crewkit.destroyed_keys(within_s double precision, up_to integer)
    RETURNS TABLE (org_id uuid, subject uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT k.org_id, k.subject FROM crewkit.subject_key k
     WHERE k.destroyed_at > statement_timestamp() - make_interval(secs => within_s)
     LIMIT up_to
$fn$;

REVOKE ALL ON FUNCTION crewkit.destroyed_keys(double precision, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crewkit.destroyed_keys(double precision, integer) TO crewkit_api, crewkit_worker;

-- migrate: rollback
DROP FUNCTION crewkit.destroyed_keys(double precision, integer);
DROP INDEX crewkit.subject_key_destroyed;
