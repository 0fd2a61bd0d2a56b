"""Analytics at scale: a generator of sessions and model calls, and what questions and ingestion cost on them."""
