"""The star schema of analytics in DuckDB, what every KPI means, and the questions that can be asked.

Nothing here opens DuckDB: the worker (workers/analytics) and exports do.  The rows are those of the sessions read model, so a
session's page and its row here cannot disagree.
"""
