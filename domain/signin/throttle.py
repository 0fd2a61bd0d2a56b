"""The brake on guessing: few tries per address and quarter of an hour, whether there is such an account or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from domain.kernel import DomainError, Event, Stream
from domain.signin.events import SignInAttempted, SignInCleared

WINDOW = timedelta(minutes=15)
ATTEMPTS_MAX = {"password": 5, "mail": 5}  # per window, account and purpose


class TooManyAttemptsError(DomainError):
    """Wait; `details["retry_after_s"]` says how long."""

    code = "rate_limited"


def throttle_stream(purpose: str, account: str) -> Stream:
    """Where the tries for one address live, under `PLATFORM`."""
    return Stream("SignInThrottle", f"{purpose}:{account}")


def attempt(newest: Sequence[Event], *, account: str, purpose: str, at: datetime) -> list[Event]:
    """Count one try before it is made, so that a crowd of them cannot slip through together.

    `newest` are the stream's last events, newest first, at least as many as there are tries in a window.

    Raises:
        TooManyAttemptsError: the tries of this window are used up.
    """
    counted: list[datetime] = []
    for event in newest:
        if isinstance(event, SignInCleared):
            break
        if isinstance(event, SignInAttempted) and event.attempted_at > at - WINDOW:
            counted.append(event.attempted_at)
    most = ATTEMPTS_MAX[purpose]
    if len(counted) >= most:
        wait_s = max(1, math.ceil((counted[most - 1] + WINDOW - at).total_seconds()))
        raise TooManyAttemptsError("too many tries; wait, or sign in another way", retry_after_s=wait_s)
    return [SignInAttempted(account=account, purpose=purpose, attempted_at=at)]


def clear(newest: Sequence[Event], *, account: str, purpose: str, at: datetime) -> list[Event]:
    """The right one came.  Nothing to forget, nothing to note."""
    if not newest or isinstance(newest[0], SignInCleared):
        return []
    return [SignInCleared(account=account, purpose=purpose, cleared_at=at)]
