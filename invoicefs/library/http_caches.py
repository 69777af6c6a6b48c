"""Which list requests bypass the HTTP caches between this machine and the API.

Such a cache lets a fleet of mounts share a list for a few seconds, as the shipped configuration of
nginx does. A mount uses a list for `list_ttl_s` anyway, so these seconds hardly matter to a program
that looks around. The present list is requested, and replaces the cached one,

- for ``invoicefs refresh``;
- for a name that is in no list: it may belong to what has just been created, and a program that is
  told ``ENOENT`` does not ask again;
- after an unusable response, which the cache would repeat, and after a 401 or 403, which it does
  not keep: a list that it still has is from before that;
- if `list_ttl_s` is 0: then every access is to show the present list.

Other failures make no difference, so that mounts still share a list when the API is overloaded.
Neither does the first list of a mount, nor ``list`` without a mount: a whole fleet runs these at
the same time. ``login`` and ``doctor``, which have no library, always bypass caches, because they
are about the API.
"""

import math
from collections.abc import Callable
from typing import TypeVar

from invoicefs.errors import Denied, UnusableResponse
from invoicefs.library.listing_cache import Snapshot
from invoicefs.scheduling.scheduler import Scheduler

S = TypeVar("S", bound=Snapshot)


def must_bypass_caches(scheduler: Scheduler, job_key: str, list_ttl_s: float) -> bool:
    """Return whether a list request must bypass caches even if it is not for a new name."""
    last = scheduler.recent_failure(job_key, within_s=math.inf)
    return list_ttl_s == 0 or isinstance(last, UnusableResponse | Denied)


def fetch_list(fetch: Callable[[], S], *, bypass_caches: bool) -> S:
    """Return the list that `fetch` returns; with `bypass_caches`, one that has bypassed caches.

    `fetch` may join a request in flight that has not bypassed them; then it is called again.
    """
    while True:
        found = fetch()
        if found.bypassed_caches or not bypass_caches:
            return found
