-- Empty every key of an organization for ever; how many there were.
WITH gone AS (
    UPDATE crewkit.subject_key SET wrapped = NULL, destroyed_at = coalesce(destroyed_at, clock_timestamp())
     WHERE org_id = $1 AND wrapped IS NOT NULL RETURNING 1)
SELECT count(*) FROM gone
