-- Which tools fail or are denied most often, and how long they take.
-- For a DuckDB export: duckdb crewkit.duckdb < failing-tools.sql
SELECT
    name AS tool,
    coalesce(mcp_server, 'built in') AS server,
    count(*) AS calls,
    count(*) FILTER (WHERE status = 'failed') AS failed,
    count(*) FILTER (WHERE status = 'denied') AS denied,
    round(100.0 * count(*) FILTER (WHERE status = 'failed') / count(*), 1) AS failed_percent,
    quantile_disc(duration_ms, 0.5) AS median_ms,
    quantile_disc(duration_ms, 0.95) AS p95_ms
FROM fact_tool_call
GROUP BY ALL
ORDER BY failed DESC, calls DESC, tool
LIMIT 50;
