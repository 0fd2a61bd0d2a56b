"""What a model wrote about a session."""
