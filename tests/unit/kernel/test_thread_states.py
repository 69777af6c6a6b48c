"""Thread states last as long as the threads of libfuse, and no longer."""

import ctypes
import threading
import weakref
from collections.abc import Callable

import pytest

from invoicefs.errors import OutOfMemory
from invoicefs.kernel import thread_states
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


KEPT: list[threading.local] = []  # thread-local data also ends with its `threading.local`


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


def test_thread_local_data_outlives_a_callback() -> None:
    states = LastingThreadStates()
    assert thing_of_native_thread(None)() is None
    assert thing_of_native_thread(states)() is not None


def test_the_states_of_ended_threads_are_deleted_when_others_begin() -> None:
    states = LastingThreadStates()
    things = [thing_of_native_thread(states) for _ in range(20)]

    def are_deleted() -> bool:
        in_native_thread(states.keep)  # the kernel may list an ended thread a moment longer
        return all(thing() is None for thing in things)

    eventually(are_deleted)


def test_states_are_deleted_if_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OutOfMemory("no more threads")

    states = LastingThreadStates()
    thing = thing_of_native_thread(states)
    with monkeypatch.context() as patched:
        patched.setattr(thread_states, "start_thread", refuse)
        for _ in range(100):
            in_native_thread(states.keep)
    assert thing() is not None

    def is_deleted() -> bool:
        in_native_thread(states.keep)
        return thing() is None

    eventually(is_deleted)


def test_a_kept_state_is_usable_in_many_threads_at_once() -> None:
    """Deleting a state makes some versions of Python forget that of the calling thread."""
    states, done = LastingThreadStates(), []

    def begin() -> None:
        states.keep()
        threading.Event().wait(0)  # releases the GIL, and gets it again
        done.append(threading.get_native_id())

    programs = [threading.Thread(target=in_native_thread, args=(begin,)) for _ in range(200)]
    for program in programs:
        program.start()
    for program in programs:
        program.join()
    assert len(done) == len(programs)
