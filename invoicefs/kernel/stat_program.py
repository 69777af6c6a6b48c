"""The program of the helper process: calls ``stat`` on each path that it receives on stdin.

stdin is a socket that preserves message boundaries. A message is a number and a path; the reply is
the number and the device on which the path was found: see `stat_helper`, which starts this file as
a script, without the package. It imports little, so that it starts fast, and `os` reads and writes
the socket for that reason, too.

Threading: each thread receives one message at a time, and replies in one step. `_lock` guards the
counts of `Threads`.
"""

import os
import struct
import threading
from contextlib import suppress

CONCURRENT_STATS = 16
NUMBER = struct.Struct("=Q")
REPLY = struct.Struct("=QQ")  # the number of the path, and the device or NO_DEVICE
NO_DEVICE = 0  # no mounted filesystem has it

_MESSAGE_BYTES = NUMBER.size + 4096  # PATH_MAX, see limits.h
_CHANNEL_FD = 0


class Threads:
    """Threads that reply to messages; while all of them are busy, there is one more, up to a limit.

    Few are enough as a rule, and each counts towards the limit of the user, see RLIMIT_NPROC.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 1
        self._idle = 1

    def reply(self) -> None:
        """Reply to messages until the other end of the socket is closed."""
        with suppress(OSError):  # the mount has ended
            while message := os.read(_CHANNEL_FD, _MESSAGE_BYTES):
                self._begin()
                device = _device_of(message[NUMBER.size :])
                with self._lock:
                    self._idle += 1  # before the reply, which may cause the next message
                os.write(_CHANNEL_FD, REPLY.pack(*NUMBER.unpack_from(message), device))

    def _begin(self) -> None:
        with self._lock:
            self._idle -= 1
            if self._idle or self._count == CONCURRENT_STATS:
                return
            with suppress(RuntimeError):  # the system allows no more; the next message tries again
                threading.Thread(target=self.reply, daemon=True).start()
                self._count += 1
                self._idle += 1


def _device_of(path: bytes) -> int:
    with suppress(OSError, ValueError):  # the program that opens the file gets the error
        os.stat(path)
        return os.stat(path).st_dev
    return NO_DEVICE


if __name__ == "__main__":
    Threads().reply()
