"""`make bench`: the numbers crewkit holds itself to, each beside the peer or limit it is measured against."""
