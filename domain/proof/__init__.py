"""The proof that history was kept: canonical bytes of events, Merkle trees over them, checkpoints, and their verification."""
