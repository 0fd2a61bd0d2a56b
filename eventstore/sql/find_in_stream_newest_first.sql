-- History of one stream, newest first; null means: any.
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta
FROM crewkit.event
WHERE org_id = $1 AND position > $2 AND position <= $3
  AND ($4::text IS NULL OR type = $4) AND ($5::text IS NULL OR meta ->> 'actor' = $5)
  AND stream_id = $7
ORDER BY version DESC LIMIT $6
