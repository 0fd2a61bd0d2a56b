-- Store fresh keys where a person has none yet; whoever was first wins.
INSERT INTO crewkit.subject_key (org_id, subject, wrapped)
SELECT $1, k.subject, k.wrapped FROM unnest($2::uuid[], $3::bytea[]) k (subject, wrapped)
ON CONFLICT (org_id, subject) DO NOTHING
