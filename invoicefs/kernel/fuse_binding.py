"""fusepy's class `FUSE`, with a shorter way for the operations that programs use all the time.

The only module that imports ``fuse`` (fusepy). That loads libfuse 2, which may be missing, so it is
imported by `libfuse.load_binding` only.

The operations of an `InvoiceFilesystem` return what they have found, and the methods below fill the
structures of libfuse with it. The remaining operations take fusepy's usual way.

Threading: libfuse calls the methods in threads of its own. They share nothing that changes.
"""

import ctypes
import errno
import stat
from collections.abc import Callable
from typing import Any, Final

import fuse

from invoicefs.clock import NS_PER_S
from invoicefs.errors import UserError
from invoicefs.kernel.filesystem import InvoiceFilesystem
from invoicefs.kernel.thread_states import LastingThreadStates
from invoicefs.model import Attributes
from invoicefs.settings import Settings

BLOCK_SIZE_BYTES: Final = 4096  # st_blksize

# A PYFUNCTYPE keeps the lock of the interpreter, unlike the type that fusepy uses: a long listing
# calls this function once for each name.
_ADD_ENTRY: Final = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64
)
_LARGEST_READ: Final = ctypes.c_char * (1 << 20)  # the kernel's FUSE_MAX_MAX_PAGES, see fuse_i.h


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
            raise UserError("The mount could not be made available: see the log.")

    def _wrapper(self, callback: Callable[..., int | None], *arguments: Any) -> int:
        """Call a method for libfuse; returns its result, or a negative errno."""
        self._states.keep()
        try:
            return callback(*arguments) or 0
        except OSError as error:
            return -(error.errno or errno.EIO)

    def init(self, _connection: Any) -> None:
        """Report that the mount is usable, or end it if that fails."""
        try:
            self.operations("init", "/")
        except OSError:
            self._is_ready = False
            fuse.fuse_exit()

    def getattr(self, path: bytes, status: Any) -> None:
        """Answer LOOKUP, and GETATTR without a handle."""
        self._fill(status.contents, self.operations("getattr", _decoded(path)))

    def fgetattr(self, _path: bytes | None, status: Any, info: Any) -> None:
        """Answer GETATTR with a handle."""
        self._fill(status.contents, self.operations("getattr", None, info.contents.fh))

    def open(self, path: bytes, info: Any) -> None:
        """Answer OPEN."""
        opened = self.operations("open", _decoded(path), info.contents.flags)
        info.contents.fh = opened.handle
        info.contents.direct_io = not opened.is_applied

    def read(self, _path: bytes | None, buffer: Any, size: int, offset: int, info: Any) -> int:
        """Answer READ: copy from the content of the handle into the buffer of libfuse."""
        part = self.operations("read", None, size, offset, info.contents.fh)
        target = memoryview(_LARGEST_READ.from_address(ctypes.addressof(buffer.contents)))
        target.cast("B")[: len(part)] = part
        return len(part)

    def readdir(
        self, _path: bytes | None, buffer: int, filler: Any, _offset: int, info: Any
    ) -> None:
        """Answer READDIR: names with ``d_ino`` and ``d_type``; libfuse keeps all until the end."""
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
        status.st_blksize = BLOCK_SIZE_BYTES
        seconds, nanoseconds = divmod(attributes.mtime_ns, NS_PER_S)
        for time in (status.st_atimespec, status.st_mtimespec, status.st_ctimespec):
            time.tv_sec, time.tv_nsec = seconds, nanoseconds


def interrupted_caller() -> int | None:
    """Return the thread ID of the caller of this callback if a signal has interrupted it."""
    # Measured: libfuse notes the INTERRUPT of the kernel even without its option `intr`, with which
    # it would also send signals to its own threads.
    if not fuse._libfuse.fuse_interrupted():
        return None
    _, _, thread_id = fuse.fuse_get_context()
    return int(thread_id)


def _decoded(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
