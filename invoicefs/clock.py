"""Time as a dependency, so that tests can move it instead of sleeping.

There are two clocks, because they fail differently: ages and deadlines within a process use
monotonic seconds, which never go back when NTP steps the clock or a laptop is suspended; times
that survive a remount (of a download, an mtime) use wall-clock nanoseconds.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from invoicefs.errors import CallerKilled

NS_PER_S = 1_000_000_000

CALLER_CHECK_S: Final = 0.1
"""How often a waiting operation checks whether its caller has been killed."""

_CLOCK_REALTIME_COARSE = 5  # see linux/time.h; the time module has no name for it


def file_tick_ns() -> int:
    """Return the resolution of the times that the kernel gives to files, in nanoseconds."""
    return round(time.clock_getres(_CLOCK_REALTIME_COARSE) * NS_PER_S)


class Clock(Protocol):
    """A source of time, and a way to wait with a timeout."""

    def monotonic_s(self) -> float:
        """Return the seconds since an arbitrary start; never goes back."""

    def wall_ns(self) -> int:
        """Return the nanoseconds since 1970-01-01 UTC; may jump."""

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        """Wait on a condition, whose lock the caller has, until it is notified or times out."""


class SystemClock:
    """The clock of the machine."""

    def monotonic_s(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def wall_ns(self) -> int:
        """See `Clock`; this is the clock from which the kernel takes the mtime of written files.

        ``time.time_ns()`` is a few milliseconds ahead of it: with that, a copy could look older
        than the invoice downloaded just before, and ``cp -u`` would copy it again.
        """
        return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        """See `Clock`."""
        condition.wait(timeout_s)


class Deadline(NamedTuple):
    """The time by which an operation must end, including everything it does.

    `is_caller_killed` returns whether the program that waits for the operation has been killed; it
    is called in the thread of the operation.
    """

    at_s: float
    clock: Clock
    is_caller_killed: Callable[[], bool] | None = None

    @classmethod
    def after(
        cls, timeout_s: float, clock: Clock, is_caller_killed: Callable[[], bool] | None = None
    ) -> "Deadline":
        """Return the deadline `timeout_s` seconds from now."""
        return cls(clock.monotonic_s() + timeout_s, clock, is_caller_killed)

    def left_s(self) -> float:
        """Return the seconds until the deadline, 0 after it."""
        return max(0.0, self.at_s - self.clock.monotonic_s())

    def next_check_s(self) -> float:
        """Return the seconds until the deadline or the next `check_caller`."""
        left_s = self.left_s()
        return left_s if self.is_caller_killed is None else min(left_s, CALLER_CHECK_S)

    def check_caller(self) -> None:
        """Raise `CallerKilled` if the program that waits for the operation has been killed."""
        if self.is_caller_killed is not None and self.is_caller_killed():
            raise CallerKilled
