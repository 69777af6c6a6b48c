"""What a mount answers over its control socket: what it does, and that it looks again."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from invoicefs import __version__
from invoicefs.clock import NS_PER_S, Clock
from invoicefs.errors import UserError
from invoicefs.library.library import Library
from invoicefs.mount.activity import Activity
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.store.store import Store


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same as long as a mount lives."""

    mount_point: str
    url: str
    credential: str
    since_ns: int
    parallel: int
    store: str


class ControlServer:
    """Answers the questions that the cases of `answer` name, each by its name under ``ask``.

    Threading: called from the threads of the control socket; it has no state of its own.
    """

    def __init__(
        self,
        identity: Identity,
        library: Library,
        scheduler: Scheduler,
        activity: Activity,
        store: Store,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._library = library
        self._scheduler = scheduler
        self._activity = activity
        self._store = store
        self._clock = clock

    def answer(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to a question; raises an `InvoicefsError` that says why there is none."""
        match question.get("ask"):
            case "status":
                return self._status()
            case "refresh":
                self._library.refresh(_path_in(question))
                return {}
            case "dropped":
                return {"dropped": self._library.dropped()}
            case "again":
                self._library.download_again(_path_in(question))
                return {}
            case "why":
                return {"why": self._library.open_error(_path_in(question))}
            case other:
                raise UserError(f"A mount cannot be asked for {other!r}.")

    def _status(self) -> Mapping[str, Any]:
        """All numbers are of this mount, since it began; times are seconds since 1970 UTC."""
        identity, activity = self._identity, self._activity.snapshot()
        counts, pressure = self._library.counts(), self._scheduler.pressure()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "mount_point": identity.mount_point,
            "url": identity.url,
            "credential": identity.credential,
            "since_s": identity.since_ns / NS_PER_S,
            "now_s": self._clock.wall_ns() / NS_PER_S,
            "namespaces": counts.namespaces,
            "invoices": counts.invoices,
            "fetched": counts.fetched,
            "fetched_bytes": counts.fetched_bytes,
            "open": counts.open,
            "store": {"folder": identity.store, "trouble": self._store.trouble},
            "store_hits": counts.hits,
            "downloads": counts.downloads,
            "requests": activity.requests,
            "calls": {
                "running": pressure.running,
                "waiting": pressure.waiting,
                "parallel": identity.parallel,
            },
            "cool_downs_s": dict(pressure.cool_downs_s),
            "troubles": [
                {"words": each.words, "last_s": each.last_ns / NS_PER_S, "count": each.count}
                for each in activity.recent_failures
            ],
        }


def _path_in(question: Mapping[str, Any]) -> str:
    path = question.get("path")
    if not isinstance(path, str):
        raise UserError("The question needs a path.")
    return path
