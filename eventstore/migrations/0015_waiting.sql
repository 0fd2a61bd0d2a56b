-- How long events have waited for a reader of the log
-- depends: 0013_export

-- migrate: apply

-- Seconds since the events at `wanted` positions were recorded.  Says nothing of whose events they are, so the API may ask.
CREATE FUNCTION crewkit.waited_s(wanted bigint[]) RETURNS TABLE ("position" bigint, seconds double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT e.position, greatest(0, extract(epoch FROM clock_timestamp() - e.recorded_at))::float8
      FROM crewkit.event e WHERE e.position = ANY (wanted)
$fn$;
REVOKE ALL ON FUNCTION crewkit.waited_s(bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crewkit.waited_s(bigint[]) TO crewkit_api, crewkit_worker;

-- migrate: rollback
DROP FUNCTION crewkit.waited_s(bigint[]);
