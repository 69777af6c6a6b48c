"""A scheduler under control: time stands still, and requests are blocked, until a test acts.

So tests can show that nothing happens: `Stage.settle` returns when every thread waits for time or
for the test.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Self

from invoicefs.clock import Deadline
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings
from tests.support.fake_clock import FakeClock

HANG_S = 20.0  # for what happens at once if the code is right
MAX_WAIT_S = 5.0
TIMEOUT_S = 30.0

SetStage = Callable[..., "Stage"]


class Call:
    """A request with a script: the value or exception of each attempt; the last one is repeated.

    A blocked request waits in each attempt until it is released.
    """

    def __init__(self, stage: "Stage", script: tuple[Any, ...], *, is_blocked: bool) -> None:
        self._stage = stage
        self._script = script
        self._is_blocked = is_blocked
        self._begun = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)
        self._thread = threading.current_thread()
        self.is_running = False
        self.began_s: list[float] = []
        self.deadlines: list[Deadline] = []

    @property
    def attempts(self) -> int:
        return len(self.began_s)

    def __call__(self, deadline: Deadline) -> Any:
        step = self._script[min(self.attempts, len(self._script) - 1)]
        self._thread = threading.current_thread()
        self.began_s.append(self._stage.clock.monotonic_s())
        self.deadlines.append(deadline)
        with self._stage.attempt(self._thread, is_blocked=self._is_blocked):
            self.is_running = True
            self._begun.release()
            if self._is_blocked:
                assert self._gate.acquire(timeout=HANG_S), "the test never releases this request"
            self.is_running = False
        if isinstance(step, Exception):
            raise step
        return step

    def until_begun(self) -> "Call":
        """Wait until the next attempt begins."""
        assert self._begun.acquire(timeout=HANG_S), "the request is not made"
        return self

    def release_one(self) -> None:
        """Release the attempt that is blocked."""
        self._stage.blocked_threads.discard(self._thread)
        self._gate.release()

    def release_all(self) -> None:
        """Release this and all further attempts."""
        self._is_blocked = False
        self._stage.blocked_threads.discard(self._thread)
        self._gate.release(100)


class Stage:
    """A scheduler, the callers that wait for it, and the requests that it makes."""

    def __init__(
        self,
        *,
        parallel: int = 4,
        max_wait_s: float = MAX_WAIT_S,
        jitter: float = 0.0,
        clock: FakeClock | None = None,
        on_worker_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = clock or FakeClock()
        settings = Settings(
            "https://acme.invalid",
            parallel=parallel,
            max_wait_s=max_wait_s,
            timeout_s=max(max_wait_s, TIMEOUT_S),
        )
        self.scheduler = Scheduler(settings, self.clock, lambda: jitter, on_worker_end)
        self.blocked_threads: set[threading.Thread] = set()
        self.running = 0
        self.most_running = 0
        self._lock = threading.Lock()
        self._begun = 0
        self.calls: list[Call] = []
        self._threads_before = frozenset(threading.enumerate())

    # Requests.

    def call(self, *script: Any) -> Call:
        return self._new_call(script, is_blocked=False)

    def blocked_call(self, *script: Any) -> Call:
        return self._new_call(script, is_blocked=True)

    def _new_call(self, script: tuple[Any, ...], *, is_blocked: bool) -> Call:
        self.calls.append(Call(self, script or ("content",), is_blocked=is_blocked))
        return self.calls[-1]

    def release_all(self) -> None:
        for call in self.calls:
            call.release_all()

    @contextlib.contextmanager
    def attempt(self, thread: threading.Thread, *, is_blocked: bool) -> Iterator[None]:
        with self._lock:
            self._begun += 1
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            if is_blocked:
                self.blocked_threads.add(thread)
        try:
            yield
        finally:
            with self._lock:
                self.running -= 1

    # Callers.

    def fetch(
        self,
        key: str,
        call: Callable[[Deadline], Any],
        kind: str = "pdf",
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """Fetch in the foreground, in this thread."""
        return self.scheduler.fetch(key, kind, call, Deadline.after(timeout_s, self.clock))

    def caller(
        self,
        key: str,
        call: Callable[[Deadline], Any],
        kind: str = "pdf",
        timeout_s: float = TIMEOUT_S,
        is_killed: Callable[[], bool] | None = None,
        is_urgent: bool = False,
    ) -> "Future[Any]":
        """Fetch in the foreground, in a new thread."""
        deadline = Deadline.after(timeout_s, self.clock, is_killed)
        future: Future[Any] = Future()

        def fetch() -> None:
            try:
                result = self.scheduler.fetch(key, kind, call, deadline, is_urgent=is_urgent)
                future.set_result(result)
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=fetch, name=f"caller of {key}").start()
        return future

    def start(
        self,
        key: str,
        call: Callable[[Deadline], Any],
        kind: str = "pdf",
        timeout_s: float = TIMEOUT_S,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Start a background request; returns whether its key has a job now."""
        deadline = Deadline.after(timeout_s, self.clock)
        return self.scheduler.start(key, kind, call, deadline, is_wanted)

    def occupy(self, slots: int) -> list[Call]:
        """Occupy slots with blocked foreground requests, of a kind that nothing else has."""
        calls = [self.blocked_call() for _ in range(slots)]
        for number, call in enumerate(calls):
            self.caller(f"slot {number}", call, kind="occupy")
            call.until_begun()
        return calls

    # Time.

    def settle(self) -> None:
        """Return when nothing more happens until time passes or a request is released."""
        before: object = None
        unchanged = 0
        while unchanged < 2:
            self.until_all_wait()
            with self._lock:
                state = (self._begun, self.running, self.threads())
            unchanged = unchanged + 1 if state == before else 0
            before = state
            self.clock.wake_all()
        self.until_all_wait()

    def advance_until_done(
        self, caller: "Future[Any]", *, step_s: float = 0.125, at_most_s: float = 60.0
    ) -> float:
        """Let time pass in steps until a caller has its result; return the current time."""
        last_s = self.clock.monotonic_s() + at_most_s
        self.settle()
        while not caller.done():
            assert self.clock.monotonic_s() < last_s, "the caller waits for too long"
            self.clock.advance(step_s)
            self.settle()
        return self.clock.monotonic_s()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and wait until everything due has happened.

        Everything due now happens first: a worker that has just ended a job, but does not wait yet,
        would otherwise count its idle time from a later moment.
        """
        self.settle()
        self.clock.advance(seconds)
        self.settle()

    def threads(self) -> frozenset[threading.Thread]:
        """Return the threads of this test: workers and callers."""
        return frozenset(threading.enumerate()) - self._threads_before

    def until_all_wait(self) -> None:
        """Return when every thread waits, or was notified and is about to continue."""
        until_s = time.monotonic() + HANG_S
        while busy := self.threads() - self.clock.waiting() - self.blocked_threads:
            if time.monotonic() > until_s:
                break
            with contextlib.suppress(RuntimeError):  # a thread that is just being started
                next(iter(busy)).join(0.001)
        else:
            return
        raise AssertionError(f"these threads do not become idle: {busy}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Release everything and close; no thread may be left."""
        self.release_all()
        self.scheduler.close()
        for thread in self.threads():
            thread.join(HANG_S)
        assert not self.threads()
