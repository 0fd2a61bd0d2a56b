-- What the two roles may do: the API sees one organization at a time, workers see all, nobody changes events
-- depends: 0002_append

-- migrate: apply
CREATE FUNCTION crewkit.current_org() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $fn$
    SELECT nullif(current_setting('crewkit.org_id', true), '')::uuid
$fn$;

REVOKE ALL ON ALL TABLES IN SCHEMA crewkit FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA crewkit FROM PUBLIC;
GRANT USAGE ON SCHEMA crewkit TO crewkit_api, crewkit_worker;
-- Projectors make the tables of their generations.
GRANT CREATE ON SCHEMA crewkit TO crewkit_worker;
GRANT EXECUTE ON FUNCTION crewkit.current_org(), crewkit.head(), crewkit.position_at(timestamptz),
    crewkit.settled(uuid[], bigint),
    crewkit.append(uuid[], uuid[], text[], text[], bigint[], boolean[], integer[], text[], integer[], uuid[],
        text[], json[], json[], integer[], text[], text[], integer[], text[], text[])
    TO crewkit_api, crewkit_worker;

GRANT SELECT ON crewkit.event, crewkit.stream, crewkit.checkpoint, crewkit.projection, crewkit.relay, crewkit.leaf
    TO crewkit_api, crewkit_worker;
GRANT SELECT, INSERT, UPDATE ON crewkit.subject_key TO crewkit_api, crewkit_worker;
GRANT SELECT ON crewkit.receipt, crewkit.claim TO crewkit_worker;
GRANT INSERT, UPDATE, DELETE ON crewkit.checkpoint, crewkit.projection TO crewkit_worker;
GRANT INSERT, UPDATE ON crewkit.relay TO crewkit_worker;

ALTER TABLE crewkit.event ENABLE ROW LEVEL SECURITY;
ALTER TABLE crewkit.stream ENABLE ROW LEVEL SECURITY;
ALTER TABLE crewkit.subject_key ENABLE ROW LEVEL SECURITY;
CREATE POLICY api_sees_its_tenant ON crewkit.event FOR SELECT TO crewkit_api USING (org_id = crewkit.current_org());
CREATE POLICY api_sees_its_tenant ON crewkit.stream FOR SELECT TO crewkit_api USING (org_id = crewkit.current_org());
CREATE POLICY api_keeps_its_tenant ON crewkit.subject_key TO crewkit_api
    USING (org_id = crewkit.current_org()) WITH CHECK (org_id = crewkit.current_org());
CREATE POLICY worker_sees_all ON crewkit.event FOR SELECT TO crewkit_worker USING (true);
CREATE POLICY worker_sees_all ON crewkit.stream FOR SELECT TO crewkit_worker USING (true);
CREATE POLICY worker_keeps_all ON crewkit.subject_key TO crewkit_worker USING (true) WITH CHECK (true);

-- migrate: rollback
DROP POLICY worker_keeps_all ON crewkit.subject_key;
DROP POLICY worker_sees_all ON crewkit.stream;
DROP POLICY worker_sees_all ON crewkit.event;
DROP POLICY api_keeps_its_tenant ON crewkit.subject_key;
DROP POLICY api_sees_its_tenant ON crewkit.stream;
DROP POLICY api_sees_its_tenant ON crewkit.event;
ALTER TABLE crewkit.subject_key DISABLE ROW LEVEL SECURITY;
ALTER TABLE crewkit.stream DISABLE ROW LEVEL SECURITY;
ALTER TABLE crewkit.event DISABLE ROW LEVEL SECURITY;
REVOKE ALL ON ALL TABLES IN SCHEMA crewkit FROM crewkit_api, crewkit_worker;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA crewkit FROM crewkit_api, crewkit_worker;
REVOKE ALL ON SCHEMA crewkit FROM crewkit_api, crewkit_worker;
DROP FUNCTION crewkit.current_org();
