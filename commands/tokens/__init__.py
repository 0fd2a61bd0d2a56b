"""Open, rotate and end logins; make, rotate and use the keys that sign access tokens."""

from __future__ import annotations

from commands.tokens.access import AccessTokens, BadTokenError, Claims
from commands.tokens.families import Pair, Tools, open_login, refresh_family_of, revoke_family, rotate_refresh_token
from commands.tokens.keys import SigningKeys, make_signing_key, withdraw_signing_key

__all__ = [
    "AccessTokens",
    "BadTokenError",
    "Claims",
    "Pair",
    "SigningKeys",
    "Tools",
    "make_signing_key",
    "open_login",
    "refresh_family_of",
    "revoke_family",
    "rotate_refresh_token",
    "withdraw_signing_key",
]
