-- How far analytics workers are with the exports that were asked for
-- depends: 0012_subjects

-- migrate: apply

-- tries     times a worker began; one that was killed left its try behind, so that a file nobody can write is given up
-- stage     what the worker does: `copying` rows, `writing` files, `storing` the result
-- done      tables of `total` that are through this stage
CREATE TABLE crewkit.export_progress (
    org_id     uuid        NOT NULL,
    export_id  uuid        NOT NULL,
    tries      integer     NOT NULL,
    stage      text        NOT NULL,
    done       integer     NOT NULL,
    total      integer     NOT NULL,
    rows       bigint      NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (org_id, export_id)
) WITH (fillfactor = 80);
REVOKE ALL ON crewkit.export_progress FROM PUBLIC;
GRANT SELECT ON crewkit.export_progress TO crewkit_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON crewkit.export_progress TO crewkit_worker;
ALTER TABLE crewkit.export_progress ENABLE ROW LEVEL SECURITY;
CREATE POLICY api_sees_its_tenant ON crewkit.export_progress FOR SELECT TO crewkit_api
    USING (org_id = crewkit.current_org());
CREATE POLICY worker_keeps_all ON crewkit.export_progress TO crewkit_worker USING (true) WITH CHECK (true);

-- migrate: rollback
DROP TABLE crewkit.export_progress;
