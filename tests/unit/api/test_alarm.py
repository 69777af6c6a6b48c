"""One thread calls each function at its time, and never calls a cancelled one."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from invoicefs.api.alarm import Alarm
from invoicefs.errors import OutOfMemory

HANG_S = 10.0


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    with closing(Alarm()) as alarm:
        yield alarm


def test_functions_are_called_in_order_of_time_by_one_thread(alarm: Alarm) -> None:
    called: queue.Queue[tuple[str, str]] = queue.Queue()

    def note_call(name: str) -> None:
        called.put((name, threading.current_thread().name))

    now_s = time.monotonic()
    alarm.set(now_s + 0.04, lambda: note_call("third"))
    alarm.set(now_s - 1, lambda: note_call("first"))
    alarm.set(now_s + 0.02, lambda: note_call("second"))

    names = [called.get(timeout=HANG_S) for _ in range(3)]
    assert names == [("first", "alarm"), ("second", "alarm"), ("third", "alarm")]


def test_a_cancelled_function_is_not_called(alarm: Alarm) -> None:
    called: queue.Queue[str] = queue.Queue()
    is_everything_cancelled = threading.Event()
    # All are due at once; the one thread is held until the others are cancelled.
    alarm.set(0, lambda: is_everything_cancelled.wait(HANG_S))
    entries = [alarm.set(1, lambda: called.put("cancelled")) for _ in range(500)]
    alarm.set(2, lambda: called.put("last"))

    for entry in entries:
        alarm.cancel(entry)
    is_everything_cancelled.set()

    assert called.get(timeout=HANG_S) == "last"


def test_cancelled_functions_take_no_memory(alarm: Alarm) -> None:
    for _ in range(10_000):
        alarm.cancel(alarm.set(time.monotonic() + 3600, print))

    assert len(alarm._heap) < 1000


def test_a_failing_function_does_not_affect_others(
    alarm: Alarm, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()
    alarm.set(0, lambda: 1 // 0)
    alarm.set(0, called.set)

    assert called.wait(HANG_S)
    assert "ZeroDivisionError" in caplog.text


def test_a_closed_alarm_ends_its_thread() -> None:
    alarm = Alarm()
    alarm.set(time.monotonic() + 3600, print)
    thread = next(thread for thread in threading.enumerate() if thread.name == "alarm")

    alarm.close()

    thread.join(HANG_S)
    assert not thread.is_alive()


def test_set_raises_without_a_thread_and_works_later(
    alarm: Alarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OutOfMemory):
            alarm.set(0, print)
    called = threading.Event()
    alarm.set(0, called.set)

    assert called.wait(HANG_S)
