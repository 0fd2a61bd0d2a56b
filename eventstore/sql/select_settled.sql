-- Which of these events are stored after a position?
SELECT event_id, version, position FROM crewkit.settled($1, $2)
