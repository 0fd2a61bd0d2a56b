"""Asking a model about a session: what it is told, and how its answer is read."""
