"""DuckDB's own append of an Arrow table: `python tests/benchmarks/peers/arrow.py FILE.duckdb SCRATCH`, with duckdb and pyarrow.

The rows are those of `fact_llm_call` in FILE, held in memory as one Arrow table before the clock starts; they are inserted into an
empty table of the same columns, in one transaction, in a file.  Prints rows per second.
"""

import sys
import time

import duckdb
import pyarrow as pa

ROWS_MAX = 1_000_000


def main() -> None:
    """Measure once."""
    source, scratch = sys.argv[1:3]
    connection = duckdb.connect(scratch, config={"threads": 2})
    connection.execute(f"ATTACH '{source}' AS told (READ_ONLY)")
    connection.execute("CREATE TABLE calls AS SELECT * FROM told.fact_llm_call LIMIT 0")
    # By way of Python's values, so that no column keeps an encoding of DuckDB's own.
    table = connection.execute(f"SELECT * FROM told.fact_llm_call LIMIT {ROWS_MAX}").to_arrow_table()
    table = pa.Table.from_batches(table.to_batches())
    connection.register("arrow_calls", table)
    started = time.perf_counter()
    connection.execute("BEGIN")
    connection.execute("INSERT INTO calls SELECT * FROM arrow_calls")
    connection.execute("COMMIT")
    print(table.num_rows / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
