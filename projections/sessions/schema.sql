-- Tables of one generation of the sessions read model; the generation's number takes the place of the mark after `__g`.
-- The runtime grants SELECT to crewkit_api, switches row-level security on and adds the tenant policy to every table with
-- an org_id (projections/tables.py).  What the columns mean: tables.py.

CREATE TABLE crewkit.session__g{g} (
    org_id uuid NOT NULL,
    session_id text NOT NULL,
    kind text NOT NULL,
    agent text,
    person_id uuid,
    status text NOT NULL,
    status_rule text NOT NULL,
    outcome text,
    outcome_rule text,
    opened boolean NOT NULL,
    visible boolean NOT NULL,
    started_at timestamptz,
    first_activity_at timestamptz,
    last_activity_at timestamptz,
    acted_first_at timestamptz,
    acted_last_at timestamptz,
    seen_first_at timestamptz,
    seen_last_at timestamptz,
    last_work_at timestamptz,
    last_recorded_at timestamptz,
    repo text,
    branch text,
    commit_hash text,
    project text,
    llm_sessions bigint NOT NULL,
    active_llm_sessions bigint NOT NULL,
    turn_state text NOT NULL,
    turn_at timestamptz,
    final_at timestamptz,
    final_by text,
    final_outcome text,
    final_rule text,
    declared_at timestamptz,
    declared_outcome text,
    silent_since timestamptz,
    silent_limit_s bigint,
    last_position bigint NOT NULL,
    -- The ten minutes of the last activity.  Every event moves the time itself; an index on it would have to be changed each
    -- time, and the row could not stay on its page (HOT).
    active_slot timestamptz GENERATED ALWAYS AS
        (date_bin('10 minutes', last_activity_at, timestamptz '2000-01-01 00:00:00+00')) STORED,
    PRIMARY KEY (org_id, session_id)
) WITH (fillfactor = 70);

CREATE TABLE crewkit.llm_session__g{g} (
    org_id uuid NOT NULL,
    llm_session_id text NOT NULL,
    session_id text NOT NULL,
    agent text NOT NULL,
    person_id uuid,
    agent_version text,
    agent_version_at timestamptz,
    entrypoint text,
    permission_mode text,
    permission_mode_at timestamptz,
    model text,
    model_at timestamptz,
    team text,
    repo text,
    repo_at timestamptz,
    branch text,
    branch_at timestamptz,
    commit_hash text,
    commit_hash_at timestamptz,
    project text,
    project_at timestamptz,
    forked_from text,
    status text NOT NULL,
    status_rule text NOT NULL,
    outcome text,
    outcome_rule text,
    turn_state text NOT NULL,
    acted_first_at timestamptz,
    acted_last_at timestamptz,
    seen_first_at timestamptz,
    seen_last_at timestamptz,
    started_at timestamptz,
    last_work_at timestamptz,
    ended_at timestamptz,
    end_reason text,
    last_prompt_at timestamptz,
    last_turn_at timestamptz,
    last_turn_error text,
    last_model_at timestamptz,
    last_error_at timestamptz,
    last_error text,
    clock_skew_ms bigint NOT NULL,
    runs bigint NOT NULL,
    hook_facts bigint NOT NULL,
    telemetry_facts bigint NOT NULL,
    transcript_facts bigint NOT NULL,
    prompts bigint NOT NULL,
    turns bigint NOT NULL,
    failed_turns bigint NOT NULL,
    tool_calls bigint NOT NULL,
    tool_failures bigint NOT NULL,
    tool_denials bigint NOT NULL,
    stand_in_prompts bigint NOT NULL,
    stand_in_turns bigint NOT NULL,
    stand_in_failed_turns bigint NOT NULL,
    stand_in_tool_calls bigint NOT NULL,
    stand_in_tool_failures bigint NOT NULL,
    stand_in_tool_denials bigint NOT NULL,
    tool_lines_added bigint NOT NULL,
    tool_lines_removed bigint NOT NULL,
    subagents bigint NOT NULL,
    metric_lines_added bigint NOT NULL,
    metric_lines_removed bigint NOT NULL,
    metric_lines_told boolean NOT NULL,
    metric_cost_pico_usd bigint,
    stated_at timestamptz,
    stated_cost_pico_usd bigint,
    stated_lines_added bigint,
    stated_lines_removed bigint,
    stated_api_ms bigint,
    stated_tool_ms bigint,
    stated_unknown_model boolean NOT NULL,
    last_recorded_at timestamptz,
    last_position bigint NOT NULL,
    PRIMARY KEY (org_id, llm_session_id)
) WITH (fillfactor = 70);

CREATE TABLE crewkit.subagent_session__g{g} (
    org_id uuid NOT NULL,
    llm_session_id text NOT NULL,
    agent_id text NOT NULL,
    agent_type text,
    parent_tool_use_id text,
    background boolean,
    real boolean NOT NULL,
    status text NOT NULL,
    model text,
    started_at timestamptz,
    ended_at timestamptz,
    told_total_tokens bigint,
    told_tool_uses bigint,
    told_duration_ms bigint,
    PRIMARY KEY (org_id, llm_session_id, agent_id)
);

CREATE TABLE crewkit.model_call__g{g} (
    org_id uuid NOT NULL,
    call_key text NOT NULL,
    llm_session_id text NOT NULL,
    owner_rank smallint NOT NULL,
    at timestamptz NOT NULL,
    agent_id text,
    agent_rank smallint NOT NULL,
    prompt_id text,
    request_id text,
    message_id text,
    model text,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    web_searches bigint NOT NULL,
    reported_pico_usd bigint,
    priced_pico_usd bigint,
    price_version text,
    unpriced_reason text,
    telemetry boolean NOT NULL,
    transcript boolean NOT NULL,
    sidechain boolean NOT NULL,
    copied boolean NOT NULL,
    stand_in boolean NOT NULL,
    duration_ms bigint,
    ttft_ms bigint,
    query_source text,
    speed text,
    effort text,
    service_tier text,
    skill text,
    PRIMARY KEY (org_id, call_key)
);

CREATE TABLE crewkit.model_call_alias__g{g} (
    org_id uuid NOT NULL,
    message_id text NOT NULL,
    call_key text NOT NULL,
    rank smallint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (org_id, message_id)
);

CREATE TABLE crewkit.tool_call__g{g} (
    org_id uuid NOT NULL,
    llm_session_id text NOT NULL,
    tool_use_id text NOT NULL,
    at timestamptz NOT NULL,
    name text,
    status text,
    agent_id text,
    agent_rank smallint NOT NULL,
    prompt_id text,
    request_id text,
    mcp_server text,
    duration_ms bigint,
    lines_added bigint NOT NULL,
    lines_removed bigint NOT NULL,
    decision text,
    decision_source text,
    stand_in boolean NOT NULL,
    PRIMARY KEY (org_id, llm_session_id, tool_use_id)
);

CREATE TABLE crewkit.prompt__g{g} (
    org_id uuid NOT NULL,
    llm_session_id text NOT NULL,
    prompt_id text NOT NULL,
    person_id uuid NOT NULL,
    submitted_at timestamptz,
    ended_at timestamptz,
    error text,
    chars bigint,
    source text,
    command text,
    model text,
    model_at timestamptz,
    text text,
    text_rank smallint NOT NULL,
    stand_in boolean NOT NULL,
    PRIMARY KEY (org_id, llm_session_id, prompt_id)
);

CREATE TABLE crewkit.tally__g{g} (
    org_id uuid NOT NULL,
    llm_session_id text NOT NULL,
    name text NOT NULL,
    channel text NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (org_id, llm_session_id, name, channel)
);

-- Lists: keyset pages by (active_slot, last_activity_at, session_id), alone and behind the common filters; the sessions of one
-- slot are sorted when they are read.
CREATE INDEX session__g{g}_recent ON crewkit.session__g{g} (org_id, active_slot) WHERE visible;
CREATE INDEX session__g{g}_person ON crewkit.session__g{g} (org_id, person_id, active_slot) WHERE visible;
CREATE INDEX session__g{g}_repo ON crewkit.session__g{g} (org_id, repo, active_slot) WHERE visible;
CREATE INDEX session__g{g}_project ON crewkit.session__g{g} (org_id, project, active_slot) WHERE visible;
-- Live counters and the search for stale sessions.
CREATE INDEX session__g{g}_active ON crewkit.session__g{g} (org_id, session_id) WHERE status = 'active';
CREATE INDEX llm_session__g{g}_session ON crewkit.llm_session__g{g} (org_id, session_id);
-- Totals of one conversation, the model filter, the totals of a day.
CREATE INDEX model_call__g{g}_owner ON crewkit.model_call__g{g} (org_id, llm_session_id);
CREATE INDEX model_call__g{g}_model ON crewkit.model_call__g{g} (org_id, model, llm_session_id);
CREATE INDEX model_call__g{g}_at ON crewkit.model_call__g{g} (org_id, at);
-- Text search, and erasing a person's texts.
CREATE INDEX prompt__g{g}_words ON crewkit.prompt__g{g} USING gin (to_tsvector('simple', text)) WHERE text IS NOT NULL;
CREATE INDEX prompt__g{g}_person ON crewkit.prompt__g{g} (org_id, person_id) WHERE text IS NOT NULL;

-- Text search.  Row-level security would keep the reader's role from using the word index (`@@` is not leakproof), so this
-- function looks as its owner and holds the tenant itself.  It reads through the views, whatever generation they show.
CREATE OR REPLACE FUNCTION crewkit.sessions_matching(wanted text, words text, found_max integer) RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = crewkit, pg_temp AS $$
DECLARE
    tenant uuid := nullif(current_setting('crewkit.org_id', true), '')::uuid;
BEGIN
    IF words <> '' THEN
        RETURN QUERY
            SELECT l.session_id
              FROM crewkit.prompt p
              JOIN crewkit.llm_session l ON l.org_id = p.org_id AND l.llm_session_id = p.llm_session_id
             WHERE p.org_id = tenant AND p.text IS NOT NULL
               AND NOT EXISTS (SELECT FROM crewkit.person e
                                WHERE e.org_id = p.org_id AND e.person_id = p.person_id AND e.shredded_at IS NOT NULL)
               AND to_tsvector('simple', p.text) @@ to_tsquery('simple', words)
             LIMIT found_max;
    END IF;
    RETURN QUERY
        SELECT s.session_id FROM crewkit.session s
         WHERE s.org_id = tenant AND s.visible
           AND (s.repo ILIKE wanted OR s.branch ILIKE wanted OR s.project ILIKE wanted OR s.session_id ILIKE wanted)
         ORDER BY s.last_activity_at DESC LIMIT found_max;
END $$;
REVOKE ALL ON FUNCTION crewkit.sessions_matching(text, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crewkit.sessions_matching(text, text, integer) TO crewkit_api;
