"""Token buckets in this process: a steady rate with one second's worth of burst, or more where asked for."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from api.errors import ApiError

BUCKETS_MAX = 20_000
IP_FACTOR = 10  # one address may stand for a whole office behind one router


class RateLimiter:
    """`take` refuses when a caller is faster than `per_s`; 0 turns the limit off.  Times are monotonic seconds.

    `burst_s` is for how many seconds' worth of requests at once a rested caller is good.
    """

    def __init__(self, per_s: float, *, burst_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_s = per_s
        self._burst_s = burst_s
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, *, factor: int = 1) -> None:
        """Count one request of `caller`, allowed `factor` times the rate.

        Raises:
            ApiError: 429 with the whole seconds after which the next one is welcome.
        """
        if self.per_s <= 0:
            return
        rate = float(self.per_s * factor)
        now = self._clock()
        full = rate * self._burst_s
        tokens, seen = self._buckets.pop(caller, (full, now))
        tokens = min(full, tokens + (now - seen) * rate)
        allowed = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        if not allowed:
            wait_s = max(1, math.ceil((1.0 - tokens) / rate))
            raise ApiError(429, "too many requests; slow down", headers={"Retry-After": str(wait_s)})
