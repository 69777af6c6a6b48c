"""fusepy's class `FUSE`, with faster versions of the most frequent operations.

The only module that imports fusepy. Its name there is ``fuse``, but ``fusepy`` in Debian, where
``fuse`` is another project (python3-fuse). It loads libfuse 2. Both may be missing, so this module
is imported by `libfuse.load_binding` only.

The operations of an `InvoiceFilesystem` return what they have found, and the methods below fill the
structures of libfuse with it. fusepy itself handles the remaining operations.

Threading: libfuse calls the methods in threads of its own, whose states are all that they share.
"""

import ctypes
import errno
import logging
import stat
from collections.abc import Callable
from typing import Any, Final

try:
    import fusepy as fuse
except ModuleNotFoundError:
    import fuse

from invoicefs.clock import NS_PER_S
from invoicefs.errors import UserError
from invoicefs.kernel.filesystem import InvoiceFilesystem
from invoicefs.kernel.thread_states import LastingThreadStates
from invoicefs.model import Attributes
from invoicefs.names import path_text
from invoicefs.settings import Settings

log = logging.getLogger(__name__)

_ST_BLKSIZE_BYTES: Final = 4096

# Unlike fusepy's type, a PYFUNCTYPE does not release the GIL for each name of a long listing. That
# is safe, because with `use_ino` libfuse's fill_dir takes no lock.
_ADD_ENTRY: Final = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64
)
_ANY_READ: Final = ctypes.c_char * (1 << 30)  # larger than any read; nothing is allocated


class Binding(fuse.FUSE):  # type: ignore[misc] # fusepy has no types
    """Mounts a filesystem when it is created, and serves the kernel until it is unmounted.

    Raises `RuntimeError` if libfuse cannot mount, and `UserError` if the mount is not ready then.
    """

    operations: InvoiceFilesystem

    def __init__(
        self,
        filesystem: InvoiceFilesystem,
        mount_point: str,
        settings: Settings,
        **options: Any,
    ) -> None:
        self._settings = settings
        self._states = LastingThreadStates()
        self._is_ready = True
        super().__init__(filesystem, mount_point, foreground=True, **options)
        if not self._is_ready:
            raise UserError(
                "The mount was ended because it could not be made available: the log says why."
            )

    def _wrapper(self, callback: Callable[..., int | None], *arguments: Any) -> int:
        """Call a method for libfuse; returns its result, or a negative errno."""
        try:
            self._states.keep()
            return callback(*arguments) or 0
        except OSError as error:
            return -(error.errno or errno.EIO)
        except BaseException:
            # ctypes would return a random number.
            log.exception("Unexpected failure of %s", getattr(callback, "__name__", callback))
            return -errno.EIO

    def init(self, _connection: Any) -> None:
        """Report that the mount is usable, or end it if that fails."""
        try:
            self.operations("init", "/")
        except OSError:
            self._is_ready = False
            fuse.fuse_exit()

    def getattr(self, path: bytes, status: Any) -> None:
        """Answer LOOKUP, and GETATTR without a handle."""
        self._fill(status.contents, self.operations("getattr", path_text(path)))

    def fgetattr(self, _path: bytes | None, status: Any, info: Any) -> None:
        """Answer GETATTR with a handle."""
        self._fill(status.contents, self.operations("getattr", None, info.contents.fh))

    def open(self, path: bytes, info: Any) -> None:
        """Answer OPEN."""
        opened = self.operations("open", path_text(path), info.contents.flags)
        info.contents.fh = opened.handle
        info.contents.direct_io = not opened.is_applied

    def read(self, _path: bytes | None, buffer: Any, size: int, offset: int, info: Any) -> int:
        """Answer READ: copy from the content of the handle into the buffer of libfuse."""
        part = self.operations("read", None, size, offset, info.contents.fh)
        target = memoryview(_ANY_READ.from_address(ctypes.addressof(buffer.contents)))
        target.cast("B")[: len(part)] = part
        return len(part)

    def readdir(
        self, _path: bytes | None, buffer: int, filler: Any, _offset: int, info: Any
    ) -> None:
        """Answer READDIR: names with ``d_ino`` and ``d_type``; libfuse buffers all of them."""
        add = ctypes.cast(filler, _ADD_ENTRY)
        status = fuse.c_stat()
        address = ctypes.addressof(status)
        for name, inode, mode in self.operations("readdir", None, info.contents.fh):
            status.st_ino, status.st_mode = inode, mode
            add(buffer, name, address, 0)

    def _fill(self, status: Any, attributes: Attributes) -> None:
        """Fill a ``struct stat``; libfuse has cleared it."""
        settings = self._settings
        if attributes.is_directory:
            status.st_mode = stat.S_IFDIR | settings.directory_mode
        else:
            status.st_mode = stat.S_IFREG | settings.file_mode
        status.st_ino = attributes.inode
        status.st_nlink = attributes.links
        status.st_uid = settings.uid
        status.st_gid = settings.gid
        status.st_size = attributes.size_bytes
        status.st_blocks = attributes.blocks
        status.st_blksize = _ST_BLKSIZE_BYTES
        seconds, nanoseconds = divmod(attributes.mtime_ns, NS_PER_S)
        for time in (status.st_atimespec, status.st_mtimespec, status.st_ctimespec):
            time.tv_sec, time.tv_nsec = seconds, nanoseconds


def caller() -> int:
    """Return the thread ID of the program that caused this callback of libfuse."""
    _, _, thread_id = fuse.fuse_get_context()
    return int(thread_id)


def is_interrupted() -> bool:
    """Return whether a signal has interrupted the program that caused this callback of libfuse."""
    # Measured: libfuse notes the INTERRUPT of the kernel even without its option `intr`, with which
    # it would also send signals to its own threads.
    return bool(fuse._libfuse.fuse_interrupted())
