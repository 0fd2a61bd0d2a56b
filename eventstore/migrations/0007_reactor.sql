-- The reactor: where it stands in the log, what it has still to do, and what it may spend
-- depends: 0006_claimed

-- migrate: apply

-- One row.  It starts at the head: what happened before there was a reactor causes nothing now.
CREATE TABLE crewkit.reactor (
    name       text        PRIMARY KEY DEFAULT 'main',
    position   bigint      NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 80);
INSERT INTO crewkit.reactor (position) SELECT crewkit.head();

-- One effect of one event.  Written in the transaction that moves the reactor past the event.
-- state    waiting (due at `due_at`), done, skipped (nothing had to be done, see remark), dead (given up, see remark)
-- running  the office holder has it in hand; whoever takes office next finds out that nobody has
-- remark   why; never anything personal
CREATE TABLE crewkit.reaction (
    kind       text        NOT NULL,
    event_id   uuid        NOT NULL,
    org_id     uuid        NOT NULL,
    position   bigint      NOT NULL,
    state      text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'skipped', 'dead')),
    tries      integer     NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL,
    running    boolean     NOT NULL DEFAULT false,
    remark     text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, kind)
) WITH (fillfactor = 80);
CREATE INDEX reaction_open ON crewkit.reaction (kind, due_at) WHERE state IN ('waiting', 'dead');
CREATE INDEX reaction_over ON crewkit.reaction (updated_at) WHERE state IN ('done', 'skipped');

-- How often an organization made use, on one day (UTC), of what costs money.
CREATE TABLE crewkit.reaction_budget (
    kind   text    NOT NULL,
    org_id uuid    NOT NULL,
    day    date    NOT NULL,
    used   integer NOT NULL,
    PRIMARY KEY (kind, org_id, day)
);

-- What waits and what was given up, by kind.  Tells nothing about whose it is.
CREATE FUNCTION crewkit.open_reactions()
    RETURNS TABLE (kind text, state text, count bigint, oldest_s double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT r.kind, r.state, count(*), extract(epoch FROM clock_timestamp() - min(r.created_at))::float8
      FROM crewkit.reaction r WHERE r.state IN ('waiting', 'dead') GROUP BY r.kind, r.state
$fn$;

REVOKE ALL ON FUNCTION crewkit.open_reactions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crewkit.open_reactions() TO crewkit_api, crewkit_worker;
GRANT SELECT ON crewkit.reactor TO crewkit_api, crewkit_worker;
GRANT UPDATE ON crewkit.reactor TO crewkit_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON crewkit.reaction, crewkit.reaction_budget TO crewkit_worker;

-- migrate: rollback
DROP FUNCTION crewkit.open_reactions();
DROP TABLE crewkit.reaction_budget;
DROP TABLE crewkit.reaction;
DROP TABLE crewkit.reactor;
