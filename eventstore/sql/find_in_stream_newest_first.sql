-- History of one stream, newest first; null means: any.  $8: only what was decided.
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta
FROM crewkit.event
WHERE org_id = $1 AND position > $2 AND position <= $3
  AND ($4::text IS NULL OR type = $4) AND ($5::text IS NULL OR meta ->> 'actor' = $5)
  AND (NOT $8::boolean
       OR type <> ALL (ARRAY['hook.recorded.v1', 'telemetry.recorded.v1', 'transcript.recorded.v1']))
  AND stream_id = $7
ORDER BY version DESC LIMIT $6
