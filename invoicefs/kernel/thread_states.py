"""Lasting Python thread states for the threads of libfuse.

In a thread that Python has not started, ctypes creates a thread state for each callback and deletes
it at its end. That takes time (measured: 121 us for a ``stat`` by each of four programs at once,
43 us with lasting states), and `threading.local` is empty in each callback. A state lasts as soon
as the thread has called ``PyGILState_Ensure`` once more than ``PyGILState_Release``.

libfuse ends threads when more than ten are idle. Their states are deleted when the next thread
begins, so there are at most as many states as there have been threads at the same time.

Threading: `_lock` guards `_states`.
"""

import ctypes
import os
import threading
from collections.abc import Iterable

from invoicefs.errors import OutOfMemory
from invoicefs.threads import start_thread

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
        self._local = threading.local()

    def keep(self) -> None:
        """Make the state of the calling thread last; must be called in a callback."""
        try:
            self._local.is_kept  # noqa: B018 # set in a thread whose state lasts
        except AttributeError:
            self._keep(threading.get_native_id())
            self._local.is_kept = True

    def _keep(self, thread_id: int) -> None:
        if _has_ended(thread_id):
            return  # without /proc, threads that end would not be noticed
        with self._lock:
            # The kernel may have given this thread the ID of one that has ended.
            ended = [other for other in self._states if other == thread_id or _has_ended(other)]
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
    return not os.path.exists(f"/proc/self/task/{thread_id}")
