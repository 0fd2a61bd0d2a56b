-- The last position, 0 for an empty log.
SELECT crewkit.head()
