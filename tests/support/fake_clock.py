"""A clock that stands still until a test moves it."""

import threading

from invoicefs.clock import NS_PER_S

_HANG_S = 20.0  # a wait that never ends is a bug: the test fails instead of hanging
_ROUNDING_NS = 1000  # seconds are floats: a timeout that close counts as over


class FakeClock:
    """A `Clock` whose time passes only in `advance`.

    It wakes only waits whose timeout is over, so tests notice timeouts that are too long. Other
    waits on the same condition wake with them, as they may at any time.

    Threading: `_lock` guards every field but `_seen`, which each thread has to itself.
    """

    def __init__(self, wall_s: float = 1_790_000_000.0) -> None:
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._elapsed_ns = 0
        self._wall_start_ns = int(wall_s * NS_PER_S)
        self._waits: list[_Wait] = []
        self._seen = threading.local()

    def monotonic_s(self) -> float:
        with self._lock:
            self._seen.ns = self._elapsed_ns
            return self._elapsed_ns / NS_PER_S

    def wall_ns(self) -> int:
        with self._lock:
            return self._wall_start_ns + self._elapsed_ns

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        """Wait on a held condition until it is notified or the timeout has passed in `advance`."""
        with self._lock:
            # The timeout counts from the time that this thread last read, not from now.
            seen_ns = getattr(self._seen, "ns", self._elapsed_ns)
            wait = _Wait(condition, seen_ns, timeout_s)
            if wait.is_over(self._elapsed_ns) and (wait.is_empty or seen_ns < self._elapsed_ns):
                return
            self._waits.append(wait)
        try:
            if not condition.wait(_HANG_S) and timeout_s is not None:
                raise TimeoutError("the clock was not moved and the condition not notified")
        finally:
            with self._lock:
                self._waits.remove(wait)
                self._left.notify_all()

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake the threads whose timeout is over."""
        with self._lock:
            self._elapsed_ns += int(seconds * NS_PER_S)
            over = [wait for wait in self._waits if wait.is_over(self._elapsed_ns)]
        _wake(over)

    def advance_to_next(self) -> None:
        """Let time pass until the next timeout of a wait, and wake the threads that are due."""
        with self._lock:
            left_ns = [wait.left_ns(self._elapsed_ns) for wait in self._waits]
        self.advance(min(ns for ns in left_ns if ns is not None) / NS_PER_S)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, without any time passing."""
        with self._lock:
            self._wall_start_ns += int(seconds * NS_PER_S)

    def waiting(self) -> frozenset[threading.Thread]:
        """Return the threads that wait, also those that were notified and are about to continue."""
        with self._lock:
            return frozenset(wait.thread for wait in self._waits)

    def wake_all(self) -> None:
        """Wake all threads, as may happen at any time; return when they have left their waits."""
        with self._lock:
            waits = tuple(self._waits)
        _wake(waits)
        with self._lock:
            if not self._left.wait_for(lambda: not set(waits) & set(self._waits), _HANG_S):
                raise TimeoutError("a thread was woken and cannot continue")


class _Wait:
    """A thread in `FakeClock.wait`."""

    def __init__(
        self, condition: threading.Condition, seen_ns: int, timeout_s: float | None
    ) -> None:
        self.condition = condition
        self.thread = threading.current_thread()
        self.is_empty = timeout_s is not None and timeout_s <= 0
        self._until_ns = None if timeout_s is None else seen_ns + int(timeout_s * NS_PER_S)

    def left_ns(self, elapsed_ns: int) -> int | None:
        """Return the time that is left, at least a microsecond, or None without a timeout."""
        return None if self._until_ns is None else max(_ROUNDING_NS, self._until_ns - elapsed_ns)

    def is_over(self, elapsed_ns: int) -> bool:
        return self._until_ns is not None and self._until_ns <= elapsed_ns + _ROUNDING_NS


def _wake(waits: "list[_Wait] | tuple[_Wait, ...]") -> None:
    for condition in {wait.condition for wait in waits}:
        with condition:  # a thread that does not wait yet still holds it
            condition.notify_all()
