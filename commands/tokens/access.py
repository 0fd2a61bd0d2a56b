"""Access tokens: JSON Web Tokens signed with EdDSA.  The tenant is never in them: it comes from the path.

The library is loaded when the first token is made or read: processes that never see one stay small.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from commands.tokens.keys import SigningKeys
from domain.tokens.decide import ACCESS_LIFE

ALGORITHM = "EdDSA"
TOKEN_CHARS_MAX = 2_000
CHECKED_MAX = 10_000
_NEEDED = ["iss", "sub", "jti", "fam", "iat", "exp"]


class BadTokenError(Exception):
    """Not an access token of this installation, or not any more."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid access token says.  `iat` and `exp` are seconds since 1970."""

    user_id: UUID
    jti: UUID
    family_id: UUID
    platform_role: str
    iat: int
    exp: int
    kid: str


class AccessTokens:
    """Signs and checks.  A token whose signature was checked once is remembered until it expires."""

    def __init__(self, keys: SigningKeys, issuer: str) -> None:
        self.keys = keys
        self.issuer = issuer
        self._checked: OrderedDict[bytes, Claims] = OrderedDict()

    async def mint(self, user_id: UUID, family_id: UUID, platform_role: str) -> tuple[str, int]:
        """A token, and the seconds it is good for."""
        import jwt  # noqa: PLC0415  see the module

        signer = await self.keys.signer()
        issued = int(datetime.now(UTC).timestamp())
        life_s = int(ACCESS_LIFE.total_seconds())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": str(user_id),
            "jti": str(uuid4()),
            "fam": str(family_id),
            "iat": issued,
            "exp": issued + life_s,
            "platform_role": platform_role,
        }
        return jwt.encode(claims, signer.private_key, algorithm=ALGORITHM, headers={"kid": signer.kid}), life_s

    async def check(self, text: str) -> Claims:
        """What a token says, if we signed it, with a key that still counts, and it has not expired.

        Raises:
            BadTokenError: anything else.
        """
        if len(text) > TOKEN_CHARS_MAX or not text.isascii():
            raise BadTokenError("not a token of ours")
        digest = hashlib.sha256(text.encode()).digest()
        known = self._checked.get(digest)
        if known is None:
            known = await self._decoded(text)
            self._checked[digest] = known
            if len(self._checked) > CHECKED_MAX:
                self._checked.popitem(last=False)
        # Also for a remembered one: its key may have been withdrawn, and time goes on.
        if known.exp <= time.time() or await self.keys.public_key(known.kid) is None:
            self._checked.pop(digest, None)
            raise BadTokenError("the token has expired")
        return known

    async def _decoded(self, text: str) -> Claims:
        import jwt  # noqa: PLC0415  see the module

        try:
            kid = jwt.get_unverified_header(text).get("kid")
            key = await self.keys.public_key(kid) if isinstance(kid, str) else None
            if key is None:
                raise BadTokenError("signed by no key of ours")
            told = jwt.decode(text, key, algorithms=[ALGORITHM], issuer=self.issuer, options={"require": _NEEDED})
            return Claims(
                user_id=UUID(told["sub"]),
                jti=UUID(told["jti"]),
                family_id=UUID(told["fam"]),
                platform_role=str(told.get("platform_role", "org_user")),
                iat=int(told["iat"]),
                exp=int(told["exp"]),
                kid=str(kid),
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError) as error:
            raise BadTokenError("not a token of ours") from error
