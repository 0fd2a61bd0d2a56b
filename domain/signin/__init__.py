"""Ways to sign in that pass through a second device or a mailbox, and the brake on guessing.  All under `PLATFORM`."""
