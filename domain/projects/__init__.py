"""Projects: a team's unit of work, found by its git repository, with the technology it is made of."""
