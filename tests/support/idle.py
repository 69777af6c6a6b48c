"""Waits until all threads are idle: they wait for time, for work or for the test."""

import contextlib
import threading
import time

from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import Gate

_HANG_S = 20.0  # for what happens at once if the code is right
_ROUNDS = 3  # a thread may be about to give work to one that was idle before
_DISK = "disk"  # threads that work only while another thread waits for them


class Idle:
    """Waits until the threads that were started after it was created are idle.

    They are those that make requests, and their callers.
    """

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._threads_before = frozenset(threading.enumerate())

    def await_(self) -> None:
        """Return when nothing more happens until time passes or the test acts."""
        for _ in range(_ROUNDS):
            self._until_all_wait()
            self._clock.wake_all()
        self._until_all_wait()

    def _until_all_wait(self) -> None:
        until_s = time.monotonic() + _HANG_S
        while busy := self._busy():
            if time.monotonic() > until_s:
                break
            with contextlib.suppress(RuntimeError):  # a thread that is just being started
                busy[0].join(0.001)
        else:
            return
        raise AssertionError(f"these threads do not become idle: {busy}")

    def _busy(self) -> list[threading.Thread]:
        threads = frozenset(threading.enumerate()) - self._threads_before - self._clock.waiting()
        return [
            thread
            for thread in threads
            if not (thread.name.startswith(_DISK) or Gate.stops(thread))
        ]
