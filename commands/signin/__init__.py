"""Ways to sign in that pass through a mailbox, a second device or an authenticator, and the brake on guessing."""
