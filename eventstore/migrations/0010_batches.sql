-- Batches of facts that clients named: what a name stood for, so that using it for something else can be told from sending again
-- depends: 0003_rights

-- migrate: apply
CREATE TABLE crewkit.ingest_batch (
    org_id      uuid        NOT NULL,
    batch_id    text        NOT NULL,
    digest      bytea       NOT NULL,  -- of the ids of its facts
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, batch_id)
);
CREATE INDEX ingest_batch_age ON crewkit.ingest_batch USING brin (recorded_at);

-- Those of the named batches that stand for something else.
CREATE FUNCTION crewkit.reused_batches(org uuid, ids text[], digests bytea[]) RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT given.id FROM unnest(ids, digests) AS given(id, digest)
      JOIN crewkit.ingest_batch b ON b.org_id = org AND b.batch_id = given.id AND b.digest <> given.digest
$fn$;

-- Note what the batches stand for; the same answer.  A note that a power cut takes away harms nobody: facts have names of
-- their own, and no commit waits for it.
CREATE FUNCTION crewkit.note_batches(org uuid, ids text[], digests bytea[]) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO crewkit.ingest_batch (org_id, batch_id, digest, recorded_at)
        SELECT org, given.id, given.digest, clock_timestamp() FROM unnest(ids, digests) AS given(id, digest)
         ORDER BY given.id
        ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT * FROM crewkit.reused_batches(org, ids, digests);
END
$fn$;

REVOKE ALL ON crewkit.ingest_batch FROM PUBLIC;
REVOKE ALL ON FUNCTION crewkit.reused_batches(uuid, text[], bytea[]), crewkit.note_batches(uuid, text[], bytea[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crewkit.reused_batches(uuid, text[], bytea[]), crewkit.note_batches(uuid, text[], bytea[])
    TO crewkit_api, crewkit_worker;

-- migrate: rollback
DROP FUNCTION crewkit.note_batches(uuid, text[], bytea[]);
DROP FUNCTION crewkit.reused_batches(uuid, text[], bytea[]);
DROP TABLE crewkit.ingest_batch;
