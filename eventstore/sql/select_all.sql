-- A page of the whole log, oldest first.  Positions have no gaps, so the limit is also the upper bound.
SELECT position, org_id, stream_id, version, type, event_id, recorded_at, data, meta
FROM crewkit.event WHERE position > $1 ORDER BY position LIMIT $2
