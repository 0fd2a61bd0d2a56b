-- The last position recorded before a moment, 0 for none.
SELECT crewkit.position_at($1::timestamptz - interval '1 microsecond')
