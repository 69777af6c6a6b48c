"""Looks at files of our own mount, from another process, so that the kernel asks for their sizes.

A thread that waits for an answer of the mount which its own process serves cannot be killed until
that answer comes. If the process is killed while it waits, nobody gives it, the connection to the
kernel stays open, and every program that waits for the mount hangs for ever, root's tools apart
(measured: two of four runs of twenty ``kill -9`` under load). So it is another process that waits.

It gets paths and gives back their numbers, over a socket that keeps messages apart, and ends with
the process that started it. It imports nothing of this package and nothing outside of the
standard library, knows no secret, and uses no variable of the environment. Where it cannot be had
the mount works all the same: the kernel can be told in another way to ask, see `filesystem`.

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

log = logging.getLogger(__name__)

LONGEST_LOOK_S: Final = 5.0
"""A look is answered from memory, so in a millisecond; not at all when the mount is ending."""

_LONGEST_END_S = 1.0
_AT_ONE_TIME = 16
_NUMBER_BYTES = 8
_MESSAGE_BYTES = _NUMBER_BYTES + 4096  # PATH_MAX, see limits.h


class Looker:
    """The process that looks, seen from ours; `mount_point` is in its arguments for ``ps``."""

    def __init__(self, mount_point: str) -> None:
        self._mount_point = os.fsencode(mount_point)
        self._numbers = itertools.count(1)
        self._waiting: dict[bytes, threading.Event] = {}
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # If it is stopped, nobody takes the messages.
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(LONGEST_LOOK_S))
        with theirs:
            self._process = _started(mount_point, theirs)
        try:
            threading.Thread(target=self._take_answers, name="looker", daemon=True).start()
        except RuntimeError as error:  # this machine allows no more threads
            log.warning("The answers of the process that looks cannot be read: %s", error)
            self.close()

    def look(self, path: bytes) -> None:
        """Have the kernel ask for what there is to know of a path, which begins with a slash.

        Returns when that has been answered, or cannot be: this is a wish, nobody is told.
        """
        number = next(self._numbers).to_bytes(_NUMBER_BYTES, "big")
        answered = self._waiting[number] = threading.Event()
        try:
            self._channel.send(number + self._mount_point + path)
            answered.wait(LONGEST_LOOK_S)
        except OSError:
            pass  # it has been killed, or the path is longer than any that leads somewhere
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):  # it has ended by itself
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()
        if self._process is not None:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # it hangs in some other file system
                self._process.wait(_LONGEST_END_S)

    def _take_answers(self) -> None:
        with suppress(OSError):  # closed
            while number := self._channel.recv(_NUMBER_BYTES):
                if answered := self._waiting.pop(number, None):
                    answered.set()
        for answered in tuple(self._waiting.values()):
            answered.set()


def _started(mount_point: str, channel: socket.socket) -> "subprocess.Popen[bytes] | None":
    """The other process, or None where it cannot be had."""
    try:
        return subprocess.Popen(
            [sys.executable or "python3", "-I", "-S", __file__, mount_point],
            stdin=channel.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",  # pins no folder that somebody may want to unmount
            env={},
            start_new_session=True,  # a Ctrl-C is for the mount, and this ends with it
        )
    except OSError as error:
        log.warning("The process that looks at the mount cannot be started: %s", error)
        return None


def _timeval(seconds: float) -> bytes:
    """A ``struct timeval``, see socket(7)."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))


def main() -> None:
    """What the other process does: look at each path that it is sent, some at one time."""
    with (
        socket.socket(fileno=0) as channel,
        ThreadPoolExecutor(_AT_ONE_TIME) as threads,
        suppress(OSError),
    ):
        while message := channel.recv(_MESSAGE_BYTES):
            threads.submit(_look, channel, message)


def _look(channel: socket.socket, message: bytes) -> None:
    with suppress(OSError, ValueError):  # whatever it is, whoever opens the file is told
        os.stat(message[_NUMBER_BYTES:])
    with suppress(OSError):  # nobody wants to know any more
        channel.send(message[:_NUMBER_BYTES])


if __name__ == "__main__":
    main()
