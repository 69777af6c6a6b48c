"""A helper process that calls ``stat`` on files of the mount, so that the kernel asks for sizes.

A thread that waits for the mount that its own process serves cannot be killed until the mount
answers. If the process is killed while the thread waits, no answer ever comes, the connection to
the kernel stays open, and every program that waits for the mount hangs until root aborts the
connection (measured: two of four runs of twenty ``kill -9`` under load). So another process waits.

The helper, which runs `stat_program`, receives numbered paths and sends back their numbers with the
device on which it found them, and ends with the process that started it. It knows no secret, and
uses no environment variable. The mount works without it, too: see `applied_sizes`.

Threading: a message is sent in one step, and `_waiting` changes by single assignments.
"""

import itertools
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final

from invoicefs.kernel import stat_program
from invoicefs.kernel.stat_program import NO_DEVICE, NUMBER, REPLY
from invoicefs.names import path_bytes

log = logging.getLogger(__name__)

STAT_TIMEOUT_S: Final = 5.0
"""A stat is answered from memory within a millisecond, or never if the mount is ending."""

_EXIT_TIMEOUT_S = 1.0


class _Stat:
    """A stat in progress; `device` is where the file was found."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.device = NO_DEVICE


class StatHelper:
    """The helper process, as the mount uses it; ``ps`` shows `mount_point` in its arguments.

    `device` is the number of the mounted filesystem as MAJOR:MINOR, once that is known.
    """

    def __init__(self, mount_point: str) -> None:
        self.device: str | None = None
        self._is_closed = False
        self._mount_point = os.fsencode(mount_point)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Stat] = {}
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A stopped helper process (SIGSTOP) receives no messages, so sending must time out.
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(STAT_TIMEOUT_S))
        with theirs:
            self._process = _start(mount_point, theirs)
        try:
            threading.Thread(target=self._receive, name="stat-helper", daemon=True).start()
        except RuntimeError as error:  # this machine allows no more threads
            log.warning("The helper process for stat cannot be used: %s", error)
            self.close()

    def stat(self, path: str) -> bool:
        """Make the kernel ask for the attributes of a path, which begins with a slash, twice.

        Returns whether it has asked this mount, which it may not have if the mount point leads
        elsewhere now; waits at most twice `STAT_TIMEOUT_S`, and raises nothing.
        """
        number = next(self._numbers)
        stat = self._waiting[number] = _Stat()
        try:
            self._channel.send(NUMBER.pack(number) + self._mount_point + path_bytes(path))
            stat.is_over.wait(STAT_TIMEOUT_S)
        except OSError:
            pass  # the helper process was killed, or the path is too long to exist
        finally:
            self._waiting.pop(number, None)
        return f"{os.major(stat.device)}:{os.minor(stat.device)}" == self.device

    def close(self) -> None:
        """End the helper process."""
        self._is_closed = True
        with suppress(OSError):  # it has already ended
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()
        if self._process is not None:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # it hangs in another filesystem
                self._process.wait(_EXIT_TIMEOUT_S)

    def _receive(self) -> None:
        with suppress(OSError):  # closed
            while reply := self._channel.recv(REPLY.size):
                number, device = REPLY.unpack(reply)
                if stat := self._waiting.pop(number, None):
                    stat.device = device
                    stat.is_over.set()
        for stat in tuple(self._waiting.values()):
            stat.is_over.set()
        if self._process is not None and not self._is_closed:
            log.warning("The helper process has ended: unmount and mount again to restore it.")


def _start(mount_point: str, channel: socket.socket) -> "subprocess.Popen[bytes] | None":
    """Start the helper process; returns None if that fails."""
    try:
        return subprocess.Popen(
            [sys.executable or "python3", "-I", "-S", stat_program.__file__, mount_point],
            stdin=channel.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",  # keeps no other filesystem busy, which could then not be unmounted
            env={},
            start_new_session=True,  # Ctrl-C goes to the mount only, and this process ends with it
        )
    except OSError as error:
        log.warning("The helper process for stat cannot be started: %s", error)
        return None


def _timeval(seconds: float) -> bytes:
    """Return a ``struct timeval``, see socket(7)."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
