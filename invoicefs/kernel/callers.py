"""The program that waits for an operation, and whether it has been killed.

A process that waits for a filesystem cannot end before the filesystem has replied, see
request_wait_answer in the kernel. So an operation that waits for the API ends with EINTR if its
caller has been killed; the request continues, and its result serves the next caller. All other
signals are ignored: an ``open`` that fails when a window is resized (SIGWINCH) would cost an
invoice.

``/proc/PID/status`` shows which signals are pending, blocked, ignored and caught, see proc(5).
Every fatal signal becomes a SIGKILL of each thread (complete_signal in the kernel), except those
that dump core, and those of a traced program, which its tracer may suppress.
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from invoicefs.kernel.libfuse import load_binding

_SIGKILL_BIT: Final = 1 << (signal.SIGKILL - 1)
# Signals that by default are ignored, or stop or continue a process, see signal(7).
_NOT_FATAL: Final = (
    *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
    *(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
)
_NOT_FATAL_BITS: Final = sum(1 << (number - 1) for number in _NOT_FATAL)


def caller() -> int:
    """Return the thread ID of the caller of this callback.

    Like `is_caller_killed`, must only be called in a callback: elsewhere libfuse has no context.
    """
    thread_id: int = load_binding().caller()
    return thread_id


def is_caller_killed() -> bool:
    """Return whether the caller of this callback was killed."""
    return load_binding().is_interrupted() and is_killed(caller())


def is_killed(thread_id: int) -> bool:
    """Return whether a signal that will end a thread is pending; False if that cannot be known.

    The thread may be in another PID namespace (then its ID is 0), or have ended.
    """
    try:
        text = Path(f"/proc/{thread_id}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return _is_ending(fields)


def _is_ending(fields: Mapping[str, str]) -> bool:
    def signals(name: str) -> int:
        return int(fields.get(name, "0"), 16)

    pending = signals("SigPnd") | signals("ShdPnd")
    if pending & _SIGKILL_BIT:
        return True
    survived = signals("SigBlk") | signals("SigIgn") | signals("SigCgt") | _NOT_FATAL_BITS
    return fields.get("TracerPid", "0").strip() == "0" and pending & ~survived != 0
