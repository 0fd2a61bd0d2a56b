-- Archives of personal data while they may be fetched: encrypted parts, gone after seven days
-- depends: 0008_erasure

-- migrate: apply
CREATE TABLE crewkit.data_export_part (
    org_id    uuid   NOT NULL,  -- under which the export was asked for
    export_id uuid   NOT NULL,
    number    bigint NOT NULL,
    of_org    uuid   NOT NULL,  -- whose events the part tells of …
    upto      bigint NOT NULL,  -- … and up to which position: where writing goes on after a crash
    events    bigint NOT NULL,
    sealed    bytea  NOT NULL,
    PRIMARY KEY (org_id, export_id, number)
);
ALTER TABLE crewkit.data_export_part ALTER COLUMN sealed SET STORAGE EXTERNAL;
REVOKE ALL ON crewkit.data_export_part FROM PUBLIC;
GRANT SELECT ON crewkit.data_export_part TO crewkit_api;
GRANT SELECT, INSERT, DELETE ON crewkit.data_export_part TO crewkit_worker;
ALTER TABLE crewkit.data_export_part ENABLE ROW LEVEL SECURITY;
CREATE POLICY api_sees_its_tenant ON crewkit.data_export_part FOR SELECT TO crewkit_api
    USING (org_id = crewkit.current_org());
CREATE POLICY worker_keeps_all ON crewkit.data_export_part TO crewkit_worker USING (true) WITH CHECK (true);

-- migrate: rollback
DROP TABLE crewkit.data_export_part;
