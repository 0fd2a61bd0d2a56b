"""Everything we hold about a person, in one archive that they may take along."""
