-- Wrapped keys of people of one organization; null for a destroyed one.
SELECT subject, wrapped FROM crewkit.subject_key WHERE org_id = $1 AND subject = ANY ($2::uuid[])
