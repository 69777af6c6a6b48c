"""The control server: how a mount responds to status, refresh and download requests."""

import os
from collections.abc import Mapping
from typing import Any

from invoicefs import __version__
from invoicefs.clock import NS_PER_S, Clock
from invoicefs.errors import Denied, UserError
from invoicefs.library.library import Library
from invoicefs.mount import inventory_requests
from invoicefs.mount.activity import RecentFailures, RequestCounters
from invoicefs.mount.health import problems
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings
from invoicefs.store.store import Store

MAX_FAILURES = 50
"""Maximum number of recent failures in a status."""


class ControlServer:
    """The control server of a mount; the field ``ask`` of a request is a case of `respond`.

    Threading: called from the threads of the control socket; has no state of its own.
    """

    def __init__(
        self,
        settings: Settings,
        library: Library,
        scheduler: Scheduler,
        counters: RequestCounters,
        failures: RecentFailures,
        store: Store,
        clock: Clock,
        *,
        mount_point: str,
        credential: str,
    ) -> None:
        self._settings = settings
        self._mount_point = mount_point
        self._credential = credential
        self._since_ns = clock.wall_ns()
        self._library = library
        self._scheduler = scheduler
        self._counters = counters
        self._failures = failures
        self._store = store
        self._clock = clock

    def respond(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the response to a request; raises an `InvoicefsError` if the request fails."""
        match request.get("ask"):
            case "status":
                return self._status()
            case "namespaces" | "list":
                return inventory_requests.respond(self._library.inventory, request)
            case "refresh":
                self._library.refresh(_path_in(request))
                return {}
            case "dropped":
                return {"dropped": self._library.evicted()}
            case "again":
                self._library.download_again(_path_in(request))
                return {}
            case "why":
                return {"why": self._library.open_error(_path_in(request))}
            case other:
                raise UserError(f"This mount does not know the request {other!r}.")

    def _status(self) -> Mapping[str, Any]:
        """Return what the mount is doing and its counters; times are seconds since 1970 UTC."""
        counts, load = self._library.counts(), self._scheduler.load()
        listings, now_s = self._library.listing_state(), self._clock.wall_ns() / NS_PER_S
        return {
            "version": __version__,
            "pid": os.getpid(),
            "mount_point": self._mount_point,
            "url": self._settings.url,
            "credential": self._credential,
            "since_s": self._since_ns / NS_PER_S,
            "now_s": now_s,
            "namespaces": counts.namespaces,
            "invoices": counts.invoices,
            "fetched": counts.fetched,
            "fetched_bytes": counts.fetched_bytes,
            "not_available": counts.not_available,
            "open": counts.open,
            "listings": {
                "count": len(listings.ages_s),
                "oldest_s": now_s - max(listings.ages_s) if listings.ages_s else None,
                "newest_s": now_s - min(listings.ages_s) if listings.ages_s else None,
                "outdated": sorted(
                    namespace
                    for namespace, error in listings.failures.items()
                    if not isinstance(error, Denied)
                ),
            },
            "store": {"folder": str(self._store.folder), "trouble": self._store.failure},
            "store_hits": counts.hits,
            "downloads": counts.downloads,
            "requests": self._counters.snapshot(),
            "calls": {
                "running": load.running,
                "waiting": load.waiting,
                "parallel": self._settings.parallel,
            },
            "cool_downs_s": dict(load.cool_downs_s),
            "problems": [
                {"kind": problem.kind, "words": problem.words}
                for problem in problems(self._counters.failed(), listings, self._store.failure)
            ],
            "troubles": [
                {
                    "words": failure.words,
                    "last_s": failure.last_ns / NS_PER_S,
                    "count": failure.count,
                }
                for failure in self._failures.latest(MAX_FAILURES)
            ],
        }


def _path_in(request: Mapping[str, Any]) -> str:
    path = request.get("path")
    if not isinstance(path, str):
        raise UserError("The request needs a path.")
    return path
