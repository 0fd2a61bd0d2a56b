-- For one transaction: the tenant, and plans that walk an index in order whatever the statistics of a fast-growing log say.
SELECT set_config('crewkit.org_id', $1, true), set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true)
