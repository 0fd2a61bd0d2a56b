"""Programs that drive our own store directly, run as processes of their own like the peers they alternate with."""
