-- What each project cost per month, with the share that no known call accounts for.
-- For a DuckDB export: duckdb crewkit.duckdb < cost-by-project-and-month.sql
SELECT
    strftime(slot_at, '%Y-%m') AS month,
    coalesce(project, 'unknown') AS project,
    count(DISTINCT session_id) AS sessions,
    coalesce(sum(calls), 0)::BIGINT AS model_calls,
    micro_usd(coalesce(sum(cost_pico_usd), 0)) AS cost_usd_micros,
    micro_usd(coalesce(sum(cost_pico_usd) FILTER (WHERE kind = 'rest'), 0)) AS rest_usd_micros,
    coalesce(sum(uncosted_calls), 0)::BIGINT AS calls_of_unknown_cost
FROM agg_usage
GROUP BY ALL
ORDER BY month, cost_usd_micros DESC;
