"""What our side is measured against: raw asyncpg, Litestar hello-world, the eventsourcing library, ccusage."""
