"""Users: people who sign in, whichever organizations they belong to.  Their facts live under `PLATFORM`."""
