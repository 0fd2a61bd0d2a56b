-- The append function: one batch, one autocommit statement, one answer per slot
-- depends: 0001_log

-- migrate: apply

-- Make room for events up to position `upto`, and half a leaf more.  Called under the append lock.
CREATE FUNCTION crewkit.make_room(upto bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    room  bigint;
    spare bigint;
BEGIN
    SELECT o.leaf_events / 2 INTO spare FROM crewkit.layout o;
    LOOP
        SELECT coalesce(max(l.to_position), 1) INTO room FROM crewkit.leaf l;
        EXIT WHEN room - upto > spare;
        BEGIN
            PERFORM crewkit.make_leaf();
        EXCEPTION WHEN lock_not_available THEN
            -- A vacuum of the whole log holds the lock we need.  There is still room: somebody's next append tries again.
            IF room <= upto THEN
                RAISE;
            END IF;
            EXIT;
        END;
    END LOOP;
END
$fn$;

-- Append a batch.  A slot is one stream: arrays `orgs` … `commands` have one entry per slot, `e_*` one per event, events
-- ordered by slot (`e_slots` is 1-based), `c_*` one per claimed and `r_*` one per released name.
--
-- expecteds   the version the decision was based on, -1 for none
-- facts       true: events whose id the store already has are left out and reported in `gone`
-- commands    command ids for receipts, null for none
--
-- One row per slot, in order:
-- state       0 stored, 1 repeated (the receipt's answer), 2 conflict, 3 a claimed name is taken, 4 the command id belongs
--             to another stream
-- version     of the stream afterwards (conflict: now)
-- last        its last position
-- gone        first row only: 1-based indexes into `e_*` of facts that were already there
--
-- The caller guarantees per batch: a stream once, a command id once, a claimed or released name once, no empty slot.
-- VOLATILE and READ COMMITTED: every statement after the lock sees all that earlier holders committed.
-- The settings pin the plans: index probes, whatever the statistics of a young or fast-growing table say.
CREATE FUNCTION crewkit.append(
    orgs uuid[], streams uuid[], kinds text[], ids text[], expecteds bigint[], facts boolean[], counts integer[],
    commands text[],
    e_slots integer[], e_ids uuid[], e_types text[], e_data json[], e_meta json[],
    c_slots integer[], c_scopes text[], c_keys text[],
    r_slots integer[], r_scopes text[], r_keys text[]
) RETURNS TABLE (state integer, version bigint, last bigint, gone integer[])
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_bitmapscan = off
    SET jit = off
AS $fn$
#variable_conflict use_column
DECLARE
    base   bigint;
    total  integer := cardinality(e_ids);
    moment timestamptz;
    states integer[];
    heads  bigint[];
    firsts bigint[];
    lasts  bigint[];
    low    bigint;
    hits   boolean[];
    ranks  integer[];            -- null: every event is stored, and its rank is its index
    kept   integer[] := counts;  -- events stored per slot
    starts integer[] := '{0}';   -- events stored in earlier slots
    known  integer[];
BEGIN
    PERFORM pg_advisory_xact_lock(7166181837);  -- the one lock of all writers
    SELECT e.position INTO base FROM crewkit.event e ORDER BY e.position DESC LIMIT 1;
    base := coalesce(base, 0);
    moment := clock_timestamp();
    PERFORM crewkit.make_room(base + total)
        FROM crewkit.layout o
        WHERE coalesce((SELECT l.to_position FROM crewkit.leaf l ORDER BY l.to_position DESC LIMIT 1), 1)
            - (base + total) <= o.leaf_events / 2;

    SELECT array_agg(CASE WHEN r.stream_id <> c.stream THEN 4
                          WHEN r.stream_id IS NOT NULL THEN 1
                          WHEN c.expected >= 0 AND c.expected <> coalesce(h.version, 0) THEN 2
                          ELSE 0 END ORDER BY c.slot),
           array_agg(coalesce(r.version, h.version, 0) ORDER BY c.slot),
           array_agg(coalesce(h.first_position, 0) ORDER BY c.slot),
           array_agg(coalesce(r.position, h.last_position, 0) ORDER BY c.slot)
        INTO states, heads, firsts, lasts
        FROM unnest(orgs, streams, expecteds, commands) WITH ORDINALITY c (org, stream, expected, command, slot)
        LEFT JOIN crewkit.stream h ON h.stream_id = c.stream
        LEFT JOIN crewkit.receipt r ON r.org_id = c.org AND r.command_id = c.command;

    IF cardinality(c_slots) > 0 THEN
        SELECT array_agg(CASE WHEN s.state = 0 AND EXISTS (
                   SELECT FROM unnest(c_slots, c_scopes, c_keys) w (slot, scope, key)
                   JOIN crewkit.claim k ON k.scope = w.scope AND k.key = w.key
                   WHERE w.slot = s.slot AND k.stream_id <> streams[s.slot]) THEN 3 ELSE s.state END ORDER BY s.slot)
            INTO states
            FROM unnest(states) WITH ORDINALITY s (state, slot);
    END IF;

    -- Facts of a stream lie in leaves from its first event on: `low` drops the older ones.  (No upper bound: two bounds would
    -- look so selective to a planner without statistics that it would walk the positions instead of probing the ids.)
    SELECT min(f.first) INTO low FROM unnest(firsts, facts, states) f (first, is_fact, state)
        WHERE f.is_fact AND f.first > 0 AND f.state = 0;
    IF low IS NOT NULL THEN
        SELECT array_agg(e.event_id IS NOT NULL ORDER BY u.i) INTO hits
            FROM unnest(e_slots, e_ids) WITH ORDINALITY u (slot, id, i)
            LEFT JOIN crewkit.event e
                ON facts[u.slot] AND e.event_id = u.id AND e.position >= low;
    END IF;

    IF true = ANY (hits) OR NOT 0 = ALL (states) THEN
        SELECT array_agg(CASE WHEN q.keep THEN q.rank ELSE 0 END ORDER BY q.i) INTO ranks
            FROM (SELECT p.i, p.keep, (count(*) FILTER (WHERE p.keep) OVER (ORDER BY p.i))::integer AS rank
                  FROM (SELECT u.i, states[u.slot] = 0 AND NOT coalesce(hits[u.i], false) AS keep
                        FROM unnest(e_slots) WITH ORDINALITY u (slot, i)) p) q;
        SELECT array_agg((SELECT count(*) FROM unnest(e_slots, ranks) u (slot, rank)
                          WHERE u.slot = s.slot AND u.rank > 0)::integer ORDER BY s.slot) INTO kept
            FROM unnest(states) WITH ORDINALITY s (state, slot);
        SELECT array_agg(h.i::integer ORDER BY h.i) INTO known
            FROM unnest(hits, e_slots) WITH ORDINALITY h (hit, slot, i) WHERE h.hit AND states[h.slot] = 0;
    END IF;
    IF cardinality(kept) > 1 THEN
        SELECT array_agg(q.before ORDER BY q.slot) INTO starts
            FROM (SELECT k.slot, (sum(k.n) OVER (ORDER BY k.slot) - k.n)::integer AS before
                  FROM unnest(kept) WITH ORDINALITY k (n, slot)) q;
    END IF;

    INSERT INTO crewkit.event (position, org_id, stream_id, version, type, event_id, recorded_at, data, meta)
        SELECT base + coalesce(ranks[u.i], u.i), orgs[u.slot], streams[u.slot],
               heads[u.slot] - starts[u.slot] + coalesce(ranks[u.i], u.i), u.type, u.id, moment, u.data, u.meta
        FROM unnest(e_slots, e_ids, e_types, e_data, e_meta) WITH ORDINALITY u (slot, id, type, data, meta, i)
        WHERE ranks IS NULL OR ranks[u.i] > 0;

    INSERT INTO crewkit.stream AS h (stream_id, org_id, kind, id, version, first_position, last_position)
        SELECT c.stream, c.org, c.kind, c.id, heads[c.slot] + kept[c.slot],
               base + starts[c.slot] + 1, base + starts[c.slot] + kept[c.slot]
        FROM unnest(orgs, streams, kinds, ids) WITH ORDINALITY c (org, stream, kind, id, slot)
        WHERE kept[c.slot] > 0
        ON CONFLICT (stream_id) DO UPDATE SET version = excluded.version, last_position = excluded.last_position;

    IF cardinality(array_remove(commands, NULL)) > 0 THEN
        INSERT INTO crewkit.receipt (org_id, command_id, stream_id, version, position, recorded_at)
            SELECT c.org, c.command, c.stream, heads[c.slot] + kept[c.slot],
                   CASE WHEN kept[c.slot] > 0 THEN base + starts[c.slot] + kept[c.slot] ELSE lasts[c.slot] END, moment
            FROM unnest(orgs, streams, commands) WITH ORDINALITY c (org, stream, command, slot)
            WHERE c.command IS NOT NULL AND states[c.slot] = 0;
    END IF;
    IF cardinality(r_slots) > 0 THEN
        DELETE FROM crewkit.claim k USING unnest(r_slots, r_scopes, r_keys) w (slot, scope, key)
            WHERE states[w.slot] = 0 AND k.scope = w.scope AND k.key = w.key AND k.stream_id = streams[w.slot];
    END IF;
    IF cardinality(c_slots) > 0 THEN
        INSERT INTO crewkit.claim (scope, key, org_id, stream_id)
            SELECT w.scope, w.key, orgs[w.slot], streams[w.slot]
            FROM unnest(c_slots, c_scopes, c_keys) w (slot, scope, key)
            WHERE states[w.slot] = 0
              AND NOT EXISTS (SELECT FROM crewkit.claim k WHERE k.scope = w.scope AND k.key = w.key);
    END IF;

    RETURN QUERY
        SELECT s.state,
               CASE WHEN s.state = 0 THEN heads[s.slot] + kept[s.slot] ELSE heads[s.slot] END,
               CASE WHEN s.state = 0 AND kept[s.slot] > 0 THEN base + starts[s.slot] + kept[s.slot]
                    ELSE lasts[s.slot] END,
               CASE WHEN s.slot = 1 THEN known END
        FROM unnest(states) WITH ORDINALITY s (state, slot) ORDER BY s.slot;
END
$fn$;

-- Which of these events are stored after position `floor`?  Settles appends whose connection was lost.
CREATE FUNCTION crewkit.settled(wanted uuid[], floor bigint)
    RETURNS TABLE (event_id uuid, version bigint, "position" bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT e.event_id, e.version, e.position FROM crewkit.event e WHERE e.event_id = ANY (wanted) AND e.position > floor
$fn$;

-- The last position, 0 for an empty log.  Tells nothing about whose event it is.
CREATE FUNCTION crewkit.head() RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT coalesce((SELECT e.position FROM crewkit.event e ORDER BY e.position DESC LIMIT 1), 0)
$fn$;

-- The last position recorded at or before `moment`, 0 for none: a binary search, which gapless positions allow.
CREATE FUNCTION crewkit.position_at(moment timestamptz) RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    low    bigint := 0;
    high   bigint := crewkit.head();
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := low + (high - low + 1) / 2;
        IF (SELECT e.recorded_at FROM crewkit.event e WHERE e.position = middle) <= moment THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END
$fn$;

-- migrate: rollback
DROP FUNCTION crewkit.position_at(timestamptz);
DROP FUNCTION crewkit.head();
DROP FUNCTION crewkit.settled(uuid[], bigint);
DROP FUNCTION crewkit.append(uuid[], uuid[], text[], text[], bigint[], boolean[], integer[], text[], integer[], uuid[],
    text[], json[], json[], integer[], text[], text[], integer[], text[], text[]);
DROP FUNCTION crewkit.make_room(bigint);
