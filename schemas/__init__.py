"""Request and response shapes of the API, and the golden JSON Schemas of released events (`schemas/events`)."""
