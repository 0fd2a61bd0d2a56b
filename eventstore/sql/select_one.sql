-- One event of one organization by its id.
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta
FROM crewkit.event WHERE event_id = $1 AND org_id = $2
