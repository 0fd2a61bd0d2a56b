-- A page of one stream, oldest first.  Its first position drops the leaves that lie before it.
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta
FROM crewkit.event
WHERE stream_id = $1 AND version > $2
  AND position >= (SELECT first_position FROM crewkit.stream WHERE stream_id = $1)
ORDER BY version LIMIT $3
