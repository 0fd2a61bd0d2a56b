"""Tokens: the family that each login opens, and the keys that sign access tokens.  Their facts live under `PLATFORM`."""
