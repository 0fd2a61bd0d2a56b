-- How much of what was sent to each model came from the prompt cache, from a folder of Parquet files.
-- In the folder of the export: duckdb < cache-use-by-model.sql   (no database is needed; pandas and Polars read the same files)
SELECT
    model,
    count(*) AS calls,
    sum(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT AS sent_tokens,
    round(
        100.0 * sum(cache_read_tokens)
        / nullif(sum(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens), 0), 1
    ) AS from_cache_percent,
    min(day) AS first_day,
    max(day) AS last_day
FROM read_parquet('fact_llm_call/**/*.parquet', hive_partitioning = true)
WHERE counts
GROUP BY model
ORDER BY sent_tokens DESC;
