"""Everything crewkit starts on one machine: Postgres, NATS, their files, ports, locks and process records."""
