-- Housekeeping without the owner's rights, keys that stay destroyed, and decisions that are found among millions of reports
-- depends: 0015_waiting

-- migrate: apply

-- What somebody decided is rare beside what agents report; history and the audit view look for it.  The reports cost nothing
-- here.  (eventstore/port.py: REPORTED_TYPES; a type of theirs that comes later is indexed too, which only costs room.)
CREATE INDEX event_decided ON crewkit.event (org_id, position)
    WHERE type <> ALL (ARRAY['hook.recorded.v1', 'telemetry.recorded.v1', 'transcript.recorded.v1']);

CREATE INDEX receipt_age ON crewkit.receipt USING brin (recorded_at);

-- Forget up to `up_to` answers older than `older_than`; how many.  Younger ones than a day are nobody's to forget: a command
-- that is repeated would happen twice.
CREATE FUNCTION crewkit.prune_receipts(older_than interval, up_to integer) RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    WITH gone AS (
        DELETE FROM crewkit.receipt WHERE ctid = ANY (ARRAY(
            SELECT r.ctid FROM crewkit.receipt r
             WHERE r.recorded_at < now() - greatest(older_than, interval '1 day') LIMIT up_to))
        RETURNING 1)
    SELECT count(*) FROM gone
$fn$;

-- The same for names of batches.
CREATE FUNCTION crewkit.prune_batches(older_than interval, up_to integer) RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    WITH gone AS (
        DELETE FROM crewkit.ingest_batch WHERE ctid = ANY (ARRAY(
            SELECT b.ctid FROM crewkit.ingest_batch b
             WHERE b.recorded_at < now() - greatest(older_than, interval '1 day') LIMIT up_to))
        RETURNING 1)
    SELECT count(*) FROM gone
$fn$;

REVOKE ALL ON FUNCTION crewkit.prune_receipts(interval, integer), crewkit.prune_batches(interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crewkit.prune_receipts(interval, integer), crewkit.prune_batches(interval, integer)
    TO crewkit_worker;

-- A key is made once and emptied once.  Processes may update the table in order to empty keys; with this they can do nothing
-- else: no key takes another's place (what it sealed would be lost without a trace), and none comes back.
CREATE FUNCTION crewkit.refuse_key() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
    RAISE EXCEPTION 'keys of people are only ever emptied, for good' USING ERRCODE = 'restrict_violation';
END
$fn$;
CREATE TRIGGER subject_key_is_only_emptied BEFORE UPDATE ON crewkit.subject_key FOR EACH ROW
    WHEN (new.wrapped IS NOT NULL OR (new.org_id, new.subject) IS DISTINCT FROM (old.org_id, old.subject)
          OR (old.destroyed_at IS NOT NULL AND new.destroyed_at IS DISTINCT FROM old.destroyed_at))
    EXECUTE FUNCTION crewkit.refuse_key();

-- migrate: rollback
DROP TRIGGER subject_key_is_only_emptied ON crewkit.subject_key;
DROP FUNCTION crewkit.refuse_key();
DROP FUNCTION crewkit.prune_batches(interval, integer);
DROP FUNCTION crewkit.prune_receipts(interval, integer);
DROP INDEX crewkit.receipt_age;
DROP INDEX crewkit.event_decided;
