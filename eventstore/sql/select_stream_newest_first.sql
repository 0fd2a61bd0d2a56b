-- A page of one stream, newest first.
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta
FROM crewkit.event
WHERE stream_id = $1 AND version > $2
ORDER BY version DESC LIMIT $3
