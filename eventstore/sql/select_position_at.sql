-- The last position recorded at or before a moment, 0 for none.
SELECT crewkit.position_at($1)
