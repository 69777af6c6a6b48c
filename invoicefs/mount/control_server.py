"""What a mount answers over its control socket: what it does, and that it looks again."""

import os
from collections.abc import Mapping
from typing import Any

from invoicefs import __version__
from invoicefs.clock import NS_PER_S, Clock
from invoicefs.errors import UserError
from invoicefs.library.library import Library
from invoicefs.mount.activity import Activity
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings
from invoicefs.store.store import Store


class ControlServer:
    """Answers the questions that the cases of `answer` name, each by its name under ``ask``.

    Threading: called from the threads of the control socket; it has no state of its own.
    """

    def __init__(
        self,
        settings: Settings,
        library: Library,
        scheduler: Scheduler,
        activity: Activity,
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
                return {"dropped": self._library.evicted()}
            case "again":
                self._library.download_again(_path_in(question))
                return {}
            case "why":
                return {"why": self._library.open_error(_path_in(question))}
            case other:
                raise UserError(f"A mount cannot be asked for {other!r}.")

    def _status(self) -> Mapping[str, Any]:
        """All numbers are of this mount, since it began; times are seconds since 1970 UTC."""
        activity = self._activity.snapshot()
        counts, pressure = self._library.counts(), self._scheduler.pressure()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "mount_point": self._mount_point,
            "url": self._settings.url,
            "credential": self._credential,
            "since_s": self._since_ns / NS_PER_S,
            "now_s": self._clock.wall_ns() / NS_PER_S,
            "namespaces": counts.namespaces,
            "invoices": counts.invoices,
            "fetched": counts.fetched,
            "fetched_bytes": counts.fetched_bytes,
            "open": counts.open,
            "store": {"folder": str(self._store.folder), "trouble": self._store.failure},
            "store_hits": counts.hits,
            "downloads": counts.downloads,
            "requests": activity.requests,
            "calls": {
                "running": pressure.running,
                "waiting": pressure.waiting,
                "parallel": self._settings.parallel,
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
