"""Thread states last as long as the threads of libfuse, and no longer."""

import ctypes
import threading
import weakref
from collections.abc import Callable

from invoicefs.kernel.thread_states import LastingThreadStates
from tests.mount.support.programs import eventually

_libc = ctypes.CDLL(None)
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)


def in_native_thread(function: Callable[[], object]) -> None:
    """Call a function in a thread that Python has not started, like one of libfuse."""

    def call(_: int | None) -> None:
        function()

    callback, thread = _CALLBACK(call), ctypes.c_ulong()
    assert _libc.pthread_create(ctypes.byref(thread), None, callback, None) == 0
    assert _libc.pthread_join(thread, None) == 0


class Thing:
    """Something that a thread has for itself."""


def thing_of_native_thread(states: LastingThreadStates | None) -> "weakref.ref[Thing]":
    """Return what remains of the thread-local data of a native thread after its callback."""
    local, references = threading.local(), []

    def callback() -> None:
        if states is not None:
            states.keep()
        local.thing = Thing()
        references.append(weakref.ref(local.thing))

    in_native_thread(callback)
    KEPT.append(local)
    return references[0]


KEPT: list[threading.local] = []  # thread-local data also ends with its `threading.local`


def test_thread_local_data_outlives_a_callback() -> None:
    states = LastingThreadStates()
    assert thing_of_native_thread(None)() is None
    assert thing_of_native_thread(states)() is not None


def test_the_state_of_an_ended_thread_is_deleted_when_the_next_begins() -> None:
    states = LastingThreadStates()
    thing = thing_of_native_thread(states)

    def is_deleted() -> bool:
        in_native_thread(states.keep)  # the kernel may list an ended thread a moment longer
        return thing() is None

    eventually(is_deleted)
    for _ in range(50):
        in_native_thread(states.keep)
    assert len(states) < 10


def test_a_state_is_kept_once() -> None:
    states = LastingThreadStates()

    def callback() -> None:
        for _ in range(3):
            states.keep()

    in_native_thread(callback)
    assert len(states) == 1
