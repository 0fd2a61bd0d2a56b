"""Invitations: a mailed token that makes one user a member, once."""
