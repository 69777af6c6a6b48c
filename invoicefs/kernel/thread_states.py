"""Lasting Python thread states for the threads of libfuse.

In a thread that Python has not started, ctypes creates a thread state for each callback and deletes
it at its end. That takes time (measured: 121 us for a ``stat`` by each of four programs at once,
43 us with lasting states), and `threading.local` is empty in each callback. A state lasts as soon
as the thread has called ``PyGILState_Ensure`` once more than ``PyGILState_Release``.

libfuse ends threads when more than ten are idle. Their states are deleted when a thread begins and
there are twice as many states as after the last time. To search at each beginning would take too
long: 40 opens begin 40 threads, and a ``stat`` at that time waited for 28 ms (measured).

Threading: `_lock` guards `_states` and `_search_at`. It is held while /proc is asked, which is
memory of the kernel: in between, a thread ID could be given to another thread.
"""

import ctypes
import os
import threading
from collections.abc import Iterable
from typing import Final

from invoicefs.errors import OutOfMemory
from invoicefs.threads import start_thread

_FEW_STATES: Final = 32

_ensure = ctypes.pythonapi.PyGILState_Ensure
_current_state = ctypes.pythonapi.PyGILState_GetThisThreadState
_current_state.restype = ctypes.c_void_p
_clear = ctypes.pythonapi.PyThreadState_Clear
_delete = ctypes.pythonapi.PyThreadState_Delete
for _function in (_clear, _delete):
    _function.argtypes = [ctypes.c_void_p]
    _function.restype = None


class LastingThreadStates:
    """The thread states that last, by native thread ID, see gettid(2)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[int, int] = {}
        self._search_at = _FEW_STATES
        self._local = threading.local()

    def keep(self) -> None:
        """Make the state of the calling thread last; must be called in a callback."""
        try:
            self._local.is_kept  # noqa: B018 # set in a thread whose state lasts
        except AttributeError:
            self._keep(threading.get_native_id())
            self._local.is_kept = True

    def _keep(self, thread_id: int) -> None:
        with self._lock:
            # The kernel may have given this thread the ID of one that has ended.
            ended = {thread_id} & self._states.keys()
            if len(self._states) >= self._search_at:
                ended |= set(filter(_has_ended, self._states))
                self._search_at = max(2 * (len(self._states) - len(ended)), _FEW_STATES)
            states = {other: self._states.pop(other) for other in ended}
            _ensure()
            self._states[thread_id] = _current_state()
        if states:
            self._start_deleting(states)

    def _start_deleting(self, states: dict[int, int]) -> None:
        """Delete states in another thread.

        Since Python 3.12, ``PyThreadState_Delete`` also makes the calling thread forget its own
        state, which the rest of this callback needs.
        """
        try:
            start_thread(lambda: _delete_all(states.values()), "thread-states")
        except OutOfMemory:
            with self._lock:
                self._states = states | self._states  # the next thread that begins tries again


def _delete_all(states: Iterable[int]) -> None:
    for state in states:
        _clear(state)
        _delete(state)


def _has_ended(thread_id: int) -> bool:
    # Listing the folder can miss a running thread, if another one ends meanwhile (measured: the
    # state of a running thread was deleted). Without /proc, no state is deleted.
    task = "/proc/self/task"
    return not os.path.exists(f"{task}/{thread_id}") and os.path.exists(task)
