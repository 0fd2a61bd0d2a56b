-- What a destroyed key was: its fingerprint stays, so that a certificate can name it after any crash
-- depends: 0007_reactor

-- migrate: apply
ALTER TABLE crewkit.subject_key ADD COLUMN fingerprint bytea;

-- migrate: rollback
ALTER TABLE crewkit.subject_key DROP COLUMN fingerprint;
