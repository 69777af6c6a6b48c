"""Rate limits of the sandbox, implemented as token buckets."""

import math
from dataclasses import dataclass

from invoicefs.sandbox.answers import Answer, failure


@dataclass(frozen=True)
class RateLimit:
    """A limit for each endpoint: `burst` requests at once, and `per_second` in the long run.

    `per_second` is positive; if it is tiny, only the burst ever passes. Further requests get a 429,
    with a ``Retry-After`` header if `retry_after`.
    """

    per_second: float
    burst: int
    retry_after: bool = True

    def refusal(self, wait_s: float) -> Answer:
        """Return the response to a request that would have to wait this long."""
        headers = {"Retry-After": str(math.ceil(wait_s))} if self.retry_after else None
        return failure(429, headers=headers)


class TokenBucket:
    """The token bucket of one endpoint. Threading: the caller of `take` holds a lock."""

    def __init__(self, limit: RateLimit, now_s: float) -> None:
        self._limit = limit
        self._tokens = float(limit.burst)
        self._filled_s = now_s

    def take(self, now_s: float) -> float:
        """Take a token. Returns 0, or the seconds until there is one."""
        gained = (now_s - self._filled_s) * self._limit.per_second
        self._tokens = min(self._tokens + gained, self._limit.burst)
        self._filled_s = now_s
        if self._tokens < 1:
            return (1 - self._tokens) / self._limit.per_second
        self._tokens -= 1
        return 0.0
