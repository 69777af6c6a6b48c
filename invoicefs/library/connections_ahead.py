"""Connections are opened before read-ahead needs them.

A new connection takes two round trips, with TLS, before its first request can be sent. Read-ahead
makes more requests at once with each step of a sequential access, so the connections for the next
step are opened during the current one.
"""

from functools import partial

from invoicefs.clock import Clock, Deadline
from invoicefs.library.ports import Api
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings


class ConnectionsAhead:
    """Opens connections to the API in the background; a failure has no effect.

    Each takes a slot, so there are never more connections and requests than `parallel`.
    """

    def __init__(self, api: Api, scheduler: Scheduler, clock: Clock, settings: Settings) -> None:
        self._api = api
        self._scheduler = scheduler
        self._clock = clock
        self._parallel = settings.parallel
        self._timeout_s = settings.timeout_s

    def open(self, count: int) -> None:
        """Open connections until there are `count` of them, or `parallel`."""
        count = min(count, self._parallel)
        deadline = Deadline.after(self._timeout_s, self._clock)
        connect = partial(self._api.connect_ahead, count)
        for number in range(count):
            key = f"connection/{number}"
            self._scheduler.start(key, "connection", connect, deadline, is_wanted=lambda: True)
