"""Files for analysts: an organization's analytics rows, asked for, written, kept for a while, deleted."""
