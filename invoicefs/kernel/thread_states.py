"""Lasting Python thread states for the threads of libfuse.

In a thread that Python has not started, ctypes creates a thread state for each callback and deletes
it at its end. That takes time (measured: 121 us for a ``stat`` by each of four programs at once,
43 us with lasting states), and `threading.local` is empty in each callback. A state lasts as soon
as the thread has called ``PyGILState_Ensure`` once more than ``PyGILState_Release``.

libfuse ends threads when more than ten are idle. Their states are deleted when the next thread
begins, so there are never more states than threads ran at the same time.

Threading: `_lock` guards `_states`.
"""

import ctypes
import os
import threading

_ensure = ctypes.pythonapi.PyGILState_Ensure
_current_state = ctypes.pythonapi.PyGILState_GetThisThreadState
_current_state.restype = ctypes.c_void_p
_clear = ctypes.pythonapi.PyThreadState_Clear
_delete = ctypes.pythonapi.PyThreadState_Delete
for _function in (_clear, _delete):
    _function.argtypes = [ctypes.c_void_p]
    _function.restype = None


class LastingThreadStates:
    """The thread states that last, by the numbers that the kernel gives to their threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[int, int] = {}
        self._local = threading.local()

    def __len__(self) -> int:
        """Return how many states there are, including those of threads that have ended."""
        return len(self._states)

    def keep(self) -> None:
        """Make the state of the calling thread last; must be called in a callback."""
        try:
            self._local.is_kept  # noqa: B018 # set in a thread whose state lasts
        except AttributeError:
            self._keep()
            self._local.is_kept = True

    def _keep(self) -> None:
        number = threading.get_native_id()
        with self._lock:
            # The kernel may have given this thread the number of one that has ended.
            ended = [other for other in self._states if other == number or _has_ended(other)]
            for other in ended:
                state = self._states.pop(other)
                _clear(state)
                _delete(state)
            _ensure()
            self._states[number] = _current_state()


def _has_ended(number: int) -> bool:
    return not os.path.exists(f"/proc/self/task/{number}")
