-- Empty a person's key for ever; a person without one gets a row that stays empty.
INSERT INTO crewkit.subject_key (org_id, subject, wrapped, destroyed_at) VALUES ($1, $2, NULL, clock_timestamp())
ON CONFLICT (org_id, subject) DO UPDATE SET wrapped = NULL, destroyed_at = coalesce(subject_key.destroyed_at, excluded.destroyed_at),
    fingerprint = coalesce(subject_key.fingerprint, sha256(subject_key.wrapped))
