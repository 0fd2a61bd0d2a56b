-- What streams are called.
SELECT stream_id, kind, id FROM crewkit.stream WHERE stream_id = ANY ($1::uuid[])
