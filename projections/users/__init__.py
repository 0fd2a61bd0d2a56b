"""Who can sign in and who is signed in: users, passkeys, token families, denied tokens, login activity.

One projection for all of them, so that a query sees them as of one and the same position.
"""

from __future__ import annotations

from projections.users.fold import PROJECTION
from projections.users.queries import Standing, standing

__all__ = ["PROJECTION", "Standing", "standing"]
