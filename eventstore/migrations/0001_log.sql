-- The event log, its leaves, and what the append function keeps beside it
-- depends:

-- migrate: apply
CREATE SCHEMA IF NOT EXISTS crewkit;

CREATE TABLE crewkit.event (
    position    bigint      NOT NULL,  -- global, gapless, in commit order
    org_id      uuid        NOT NULL,
    stream_id   uuid        NOT NULL,
    version     bigint      NOT NULL,  -- inside the stream, from 1
    type        text        NOT NULL,
    event_id    uuid        NOT NULL,
    recorded_at timestamptz NOT NULL,  -- never used for order
    data        json        NOT NULL,
    meta        json        NOT NULL,
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);

-- Sealed text is ciphertext: trying to compress it costs time and gains nothing.
ALTER TABLE crewkit.event ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE INDEX event_org_position ON crewkit.event (org_id, position);
CREATE INDEX event_recorded_at ON crewkit.event USING brin (recorded_at);

-- The leaves of `event`: [from_position, to_position).
CREATE TABLE crewkit.leaf (
    from_position bigint PRIMARY KEY,
    to_position   bigint NOT NULL UNIQUE,
    name          text   NOT NULL
);

-- One row: how many events the next leaf will hold.
CREATE TABLE crewkit.layout (leaf_events bigint NOT NULL CHECK (leaf_events > 0));
INSERT INTO crewkit.layout VALUES (50000000);

-- Head versions: the authority of optimistic concurrency.  80 % full pages keep the updates of heads on their page (HOT).
CREATE TABLE crewkit.stream (
    stream_id      uuid   PRIMARY KEY,
    org_id         uuid   NOT NULL,
    kind           text   NOT NULL,
    id             text   NOT NULL,
    version        bigint NOT NULL,
    first_position bigint NOT NULL,
    last_position  bigint NOT NULL
) WITH (fillfactor = 80);

-- What a command answered the first time: repeats get the same answer.
CREATE TABLE crewkit.receipt (
    org_id      uuid        NOT NULL,
    command_id  text        NOT NULL,
    stream_id   uuid        NOT NULL,
    version     bigint      NOT NULL,
    position    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, command_id)
);

-- Names that only one stream of the installation may hold.
CREATE TABLE crewkit.claim (
    scope     text NOT NULL,
    key       text NOT NULL,
    org_id    uuid NOT NULL,
    stream_id uuid NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE TABLE crewkit.projection (
    name              text        PRIMARY KEY,
    version           integer     NOT NULL,
    active_generation integer     NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE crewkit.checkpoint (
    projection      text        NOT NULL,
    generation      integer     NOT NULL,
    position        bigint      NOT NULL DEFAULT 0,
    status          text        NOT NULL DEFAULT 'running',
    error           text,
    failed_position bigint,
    skipped         json        NOT NULL DEFAULT '[]',  -- operator's decisions: [{"position", "reason", "at"}]
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, generation)
) WITH (fillfactor = 80);

-- The outbox cursor: one row.  `epoch` fences a relay that lost its lock.
CREATE TABLE crewkit.relay (
    name       text        PRIMARY KEY DEFAULT 'main',
    position   bigint      NOT NULL DEFAULT 0,
    epoch      bigint      NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 80);
INSERT INTO crewkit.relay DEFAULT VALUES;

-- Data keys of people, wrapped by the master key.  Destroying one leaves the row and empties it.
CREATE TABLE crewkit.subject_key (
    org_id       uuid        NOT NULL,
    subject      uuid        NOT NULL,
    wrapped      bytea,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    destroyed_at timestamptz,
    PRIMARY KEY (org_id, subject),
    CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);

CREATE FUNCTION crewkit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
    RAISE EXCEPTION 'events are append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$fn$;

-- Row triggers are inherited by leaves; TRUNCATE triggers are not, so `make_leaf` sets one on each leaf.
CREATE TRIGGER event_is_append_only BEFORE UPDATE OR DELETE ON crewkit.event
    FOR EACH ROW EXECUTE FUNCTION crewkit.refuse_change();
CREATE TRIGGER event_is_never_emptied BEFORE TRUNCATE ON crewkit.event
    FOR EACH STATEMENT EXECUTE FUNCTION crewkit.refuse_change();

-- Add the next leaf.  ATTACH (not PARTITION OF) because it lets readers and writers of the other leaves go on.
-- event_id and (stream_id, version) are unique per leaf: a partitioned index would have to contain the position.
CREATE FUNCTION crewkit.make_leaf() RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    lower_bound bigint;
    upper_bound bigint;
    leaf_name   text;
BEGIN
    SELECT coalesce(max(l.to_position), 1) INTO lower_bound FROM crewkit.leaf l;
    SELECT lower_bound + o.leaf_events INTO upper_bound FROM crewkit.layout o;
    leaf_name := 'event_' || lpad(lower_bound::text, 16, '0');
    EXECUTE format('CREATE TABLE crewkit.%I (LIKE crewkit.event INCLUDING DEFAULTS INCLUDING STORAGE)
        WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.01)', leaf_name);
    EXECUTE format('CREATE UNIQUE INDEX %I ON crewkit.%I (event_id)', leaf_name || '_id', leaf_name);
    EXECUTE format('CREATE UNIQUE INDEX %I ON crewkit.%I (stream_id, version)', leaf_name || '_stream', leaf_name);
    EXECUTE format('CREATE TRIGGER event_is_never_emptied BEFORE TRUNCATE ON crewkit.%I
        FOR EACH STATEMENT EXECUTE FUNCTION crewkit.refuse_change()', leaf_name);
    EXECUTE format('ALTER TABLE crewkit.event ATTACH PARTITION crewkit.%I FOR VALUES FROM (%s) TO (%s)',
        leaf_name, lower_bound, upper_bound);
    INSERT INTO crewkit.leaf VALUES (lower_bound, upper_bound, leaf_name);
    RETURN leaf_name;
END
$fn$;

SELECT crewkit.make_leaf();

-- migrate: rollback
DROP SCHEMA crewkit CASCADE;
