-- A page of the whole log, oldest first.
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta
FROM crewkit.event WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3
