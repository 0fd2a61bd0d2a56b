-- The proof beside the log: leaf hashes, subtrees, organizations' own trees and signed checkpoints.  Nothing here ever changes
-- depends: 0003_rights

-- migrate: apply

-- One row: what this log is called in its checkpoints.
CREATE TABLE crewkit.proof_log (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id       uuid    NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO crewkit.proof_log DEFAULT VALUES;

-- Hashes of events, one after the other.  Tile t holds those of positions 256 t + 1 to 256 (t + 1), in as many rows as it took
-- checkpoints to fill it; `start` is the place of a row's first hash in its tile.
CREATE TABLE crewkit.proof_leaf (
    tile   bigint   NOT NULL,
    start  smallint NOT NULL CHECK (start BETWEEN 0 AND 255),
    hashes bytea    NOT NULL CHECK (length(hashes) BETWEEN 32 AND (256 - start) * 32 AND length(hashes) % 32 = 0),
    PRIMARY KEY (tile, start)
);
ALTER TABLE crewkit.proof_leaf ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- Perfect subtrees of 256 leaves and more; smaller ones are computed from their tile.
CREATE TABLE crewkit.proof_node (
    level smallint NOT NULL CHECK (level >= 8),
    index bigint   NOT NULL,
    hash  bytea    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, index)
);

-- An organization's own tree as of a checkpoint that had events of it: how many, and the perfect subtrees they make.
CREATE TABLE crewkit.proof_organization (
    org_id  uuid   NOT NULL,
    number  bigint NOT NULL,  -- of the checkpoint
    ordinal bigint NOT NULL,  -- its place in the tree of organizations, which it keeps
    events  bigint NOT NULL CHECK (events > 0),
    peaks   bytea  NOT NULL,
    PRIMARY KEY (org_id, number)
);

-- The tree of organizations: a node as of the checkpoint that changed it, and until the next that does.
CREATE TABLE crewkit.proof_organization_node (
    level  smallint NOT NULL,
    index  bigint   NOT NULL,
    number bigint   NOT NULL,
    hash   bytea    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, index, number)
);

-- The numbers make sealing a compare-and-set: of two sealers that read the same last one, one fails.
CREATE TABLE crewkit.proof_checkpoint (
    number        bigint      PRIMARY KEY CHECK (number > 0),
    size          bigint      NOT NULL UNIQUE CHECK (size > 0),
    organizations bigint      NOT NULL CHECK (organizations > 0),
    sealed_at     timestamptz NOT NULL,
    public_key    text        NOT NULL,
    note          text        NOT NULL
);

-- Since when the oldest event that no checkpoint covers waits; null when there is none.  Tells nothing about whose it is.
CREATE FUNCTION crewkit.unsealed_since() RETURNS timestamptz
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT e.recorded_at FROM crewkit.event e
     WHERE e.position = 1 + coalesce((SELECT c.size FROM crewkit.proof_checkpoint c ORDER BY c.number DESC LIMIT 1), 0)
$fn$;

DO $do$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['proof_log', 'proof_leaf', 'proof_node', 'proof_organization', 'proof_organization_node',
                                'proof_checkpoint'] LOOP
        EXECUTE format('CREATE TRIGGER proof_is_append_only BEFORE UPDATE OR DELETE ON crewkit.%I
            FOR EACH ROW EXECUTE FUNCTION crewkit.refuse_change()', name);
        EXECUTE format('CREATE TRIGGER proof_is_never_emptied BEFORE TRUNCATE ON crewkit.%I
            FOR EACH STATEMENT EXECUTE FUNCTION crewkit.refuse_change()', name);
        EXECUTE format('REVOKE ALL ON crewkit.%I FROM PUBLIC', name);
        EXECUTE format('GRANT SELECT ON crewkit.%I TO crewkit_api, crewkit_worker', name);
    END LOOP;
END
$do$;

GRANT INSERT ON crewkit.proof_leaf, crewkit.proof_node, crewkit.proof_organization, crewkit.proof_organization_node,
    crewkit.proof_checkpoint TO crewkit_worker;

REVOKE ALL ON FUNCTION crewkit.unsealed_since() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crewkit.unsealed_since() TO crewkit_api, crewkit_worker;

-- Hashes tell nothing; who has how many events does.
ALTER TABLE crewkit.proof_organization ENABLE ROW LEVEL SECURITY;
CREATE POLICY api_sees_its_tenant ON crewkit.proof_organization FOR SELECT TO crewkit_api
    USING (org_id = crewkit.current_org());
CREATE POLICY worker_keeps_all ON crewkit.proof_organization TO crewkit_worker USING (true) WITH CHECK (true);

-- migrate: rollback
DROP FUNCTION crewkit.unsealed_since();
DROP TABLE crewkit.proof_checkpoint, crewkit.proof_organization_node, crewkit.proof_organization, crewkit.proof_node,
    crewkit.proof_leaf, crewkit.proof_log;
