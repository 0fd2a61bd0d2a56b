-- What analytics replicas tell about themselves, for health, metrics and status
-- depends: 0010_batches

-- migrate: apply

-- One row per replica, written every few seconds.  Nothing of any tenant.
-- replica   machine and folder
-- position  up to which event its rows go; `lag` counts events of the sessions read model it has not taken yet
-- rows      in the file; `written` since the process started
-- asked     questions since the process started, of which `failed` failed; `p50_s`, `p99_s` their newest latencies
CREATE TABLE crewkit.analytics_replica (
    replica    text             PRIMARY KEY,
    position   bigint           NOT NULL,
    lag        bigint           NOT NULL,
    rows       bigint           NOT NULL,
    file_bytes bigint           NOT NULL,
    written    bigint           NOT NULL,
    rebuilds   bigint           NOT NULL,
    asked      bigint           NOT NULL,
    failed     bigint           NOT NULL,
    p50_s      double precision NOT NULL,
    p99_s      double precision NOT NULL,
    updated_at timestamptz      NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 80);
GRANT SELECT, INSERT, UPDATE, DELETE ON crewkit.analytics_replica TO crewkit_worker;
GRANT SELECT ON crewkit.analytics_replica TO crewkit_api;

-- migrate: rollback
DROP TABLE crewkit.analytics_replica;
