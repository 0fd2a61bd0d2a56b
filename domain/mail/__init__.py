"""Mail that follows from events: what was sent, what could not be."""
