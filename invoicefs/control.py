"""The private socket over which a mount is asked what it does, and told to look again.

One question is one connection: a line of JSON each way. The socket is in ``$XDG_RUNTIME_DIR``, else
in the folder of the store, for its user alone (0600 in a folder of 0700); its name is made of the
path of the mount, so that whoever knows that finds it.

Threading: each connection has a thread of its own, a daemon that ends with its answer.
"""

import contextlib
import hashlib
import json
import logging
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from invoicefs.errors import InvoicefsError, UserError
from invoicefs.own_folders import own_folder

log = logging.getLogger(__name__)

Message = Mapping[str, Any]
Answer = Callable[[Message], Message]
"""Answers a question; raises an `InvoicefsError` that says why it cannot."""

_SUFFIX: Final = ".socket"
_FOLDER: Final = "invoicefs"
LONGEST_PAUSE_S = 40.0
"""Of whoever is at the other end."""

_LONGEST_LINE_BYTES = 1024 * 1024
_SILENT: Final = "The mount does not answer on {}: {}."


def _runtime_folders() -> tuple[Path, ...]:
    """Where sockets of this user belong, see the XDG base directory specification.

    ``/run/user/UID`` is what the variable holds where systemd sets it; a cron job has none.
    """
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    return (runtime / _FOLDER,) if runtime.is_absolute() and runtime.is_dir() else ()


class ControlSocket:
    """Answers questions about the mount on a path, from construction to `close`.

    Without a place for a socket the mount does without: that costs a line in the log.
    """

    def __init__(self, mount_path: str, store_folder: Path, answer: Answer) -> None:
        self._server: _Server | None = None
        for folder in (*_runtime_folders(), store_folder):
            try:
                own_folder(folder)
                self._server = _Server(folder / _name(mount_path), answer)
            except OSError as error:
                log.info("There can be no socket in %s: %s", folder, error)
            else:
                return
        log.warning("There is no place for a socket, so invoicefs status cannot ask this mount.")

    def close(self) -> None:
        """Answer no more, and take the socket away."""
        if self._server is not None:
            self._server.close()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64  # with the usual 5, a few who ask at one time are turned away

    def __init__(self, path: Path, answer: Answer) -> None:
        self.answer = answer
        self._path = path
        path.unlink(missing_ok=True)  # of a mount here before that was killed
        # The path of a socket has 107 bytes at most, see unix(7); that of a descriptor is short.
        with _opened(path.parent) as folder:
            super().__init__(f"{folder}/{path.name}", _Conversation)
            path.chmod(0o600)
        self._identity = _identity_of(path)
        self._is_closed = False
        self._accepting = threading.Thread(target=self._accept, name="control", daemon=True)
        self._accepting.start()

    def close(self) -> None:
        if _identity_of(self._path) == self._identity:  # else it is that of the next mount here
            self._path.unlink()
        self._is_closed = True
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection
        self._accepting.join()
        self.server_close()

    def _accept(self) -> None:
        # Not serve_forever, which looks twice a second whether it is to end.
        while not self._is_closed:
            self.handle_request()

    def handle_error(self, _: object, __: object) -> None:
        """Whoever asked has gone, or there is an error of ours: the mount goes on."""
        log.exception("A question could not be answered")


class _Conversation(socketserver.StreamRequestHandler):
    server: _Server
    timeout = LONGEST_PAUSE_S

    def handle(self) -> None:
        answer = self._answer(self.rfile.readline(_LONGEST_LINE_BYTES))
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    def _answer(self, line: bytes) -> Message:
        try:
            question = json.loads(line)
        except ValueError:
            return {"error": "The question is not JSON."}
        if not isinstance(question, dict):
            return {"error": "The question is not a JSON object."}
        try:
            return self.server.answer(question)
        except InvoicefsError as error:
            return {"error": str(error)}


def ask(
    mount_path: str,
    store_folders: Iterable[Path],
    question: Message,
    *,
    answer_within_s: float | None = LONGEST_PAUSE_S,
) -> Message | None:
    """The answer of the mount on a path; None where no mount of this user listens for that path.

    Raises `UserError` with the words of its refusal, and where it does not answer in time; None is
    for ever.
    """
    name = _name(mount_path)
    for folder in (*_runtime_folders(), *store_folders):
        if channel := _connected(folder / name):
            with channel:
                return _answer_on(channel, folder / name, question, answer_within_s)
    return None


def _connected(path: Path) -> socket.socket | None:
    """A connection to whoever listens on a socket; None where nobody does, or it is not ours."""
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.settimeout(LONGEST_PAUSE_S)
        with _opened(path.parent) as folder:
            channel.connect(f"{folder}/{path.name}")
    except (BlockingIOError, TimeoutError) as error:  # others wait for an answer already
        channel.close()
        raise UserError(_SILENT.format(path, error)) from error
    except OSError:
        channel.close()
        return None
    return channel


def _answer_on(
    channel: socket.socket, path: Path, question: Message, answer_within_s: float | None
) -> Message:
    try:
        channel.sendall(json.dumps(question).encode() + b"\n")
        channel.settimeout(answer_within_s)
        with channel.makefile("rb") as lines:
            answer = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise UserError(_SILENT.format(path, error)) from error
    if not isinstance(answer, dict):
        raise UserError(f"What answers on {path} is no mount of invoicefs.")
    if "error" in answer:
        raise UserError(str(answer["error"]))
    return answer


def _identity_of(path: Path) -> tuple[int, int] | None:
    """What tells a socket from the next one there, which may get the same inode."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[str]:
    """A short path of a folder, as long as it is open."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _name(mount_path: str) -> str:
    return hashlib.sha256(os.fsencode(mount_path)).hexdigest()[:16] + _SUFFIX
