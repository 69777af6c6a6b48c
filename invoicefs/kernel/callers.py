"""The programs that wait for an operation, and whether one of them has been killed.

A process that waits for a filesystem cannot be killed until the filesystem has answered, see
fuse_request_end in the kernel. So an operation that waits for the API ends with EINTR if its caller
has been killed; what it waited for goes on, for the next caller. Every other signal is ignored,
because an ``open`` that fails when the window is resized (SIGWINCH) would lose an invoice.

Every fatal signal is turned into a SIGKILL of each thread (complete_signal in the kernel), which
``/proc/PID/status`` shows as pending, see proc(5).
"""

import signal
from pathlib import Path
from typing import Final

from invoicefs.kernel.libfuse import load_binding

_SIGKILL_BIT: Final = 1 << (signal.SIGKILL - 1)


def is_caller_killed() -> bool:
    """Return whether the caller of this callback was killed; must be called in its thread."""
    caller: int | None = load_binding().interrupted_caller()
    return caller is not None and _has_pending_kill(caller)


def _has_pending_kill(thread_id: int) -> bool:
    """Return whether a thread has a pending SIGKILL; False if that cannot be known.

    The thread may be in another PID namespace (then its ID is 0), or have ended.
    """
    try:
        lines = Path(f"/proc/{thread_id}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    pending = (line.split()[1] for line in lines.splitlines() if line.startswith("SigPnd:"))
    return any(int(signals, 16) & _SIGKILL_BIT for signals in pending)
