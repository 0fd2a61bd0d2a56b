-- Whose keys were destroyed in the last $1 seconds, in any organization; at most $2 of them.
SELECT org_id, subject FROM crewkit.destroyed_keys($1, $2)
