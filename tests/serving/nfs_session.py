"""An NFS client that keeps what it has mounted, as a kernel does, by libnfs."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from tests.serving.running_server import HOST

_CHUNK_BYTES = 64 * 1024


class NfsSession:
    """A folder that was mounted once, and is then only known to the client by its handle."""

    def __init__(self, port: int, folder: str) -> None:
        self._libnfs = ctypes.CDLL("libnfs.so.13")
        self._libnfs.nfs_init_context.restype = ctypes.c_void_p
        self._libnfs.nfs_get_error.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._libnfs.nfs_init_context())
        path = f"/invoices/{folder}"
        # A URL is the only way to set the port; its path and host are not used.
        url = f"nfs://{HOST}{path}?nfsport={port}&version=4"
        self._libnfs.nfs_parse_url_dir.restype = ctypes.c_void_p
        parsed = self._libnfs.nfs_parse_url_dir(self._context, url.encode())
        self._libnfs.nfs_destroy_url(ctypes.c_void_p(parsed))
        self._call("nfs_mount", HOST.encode(), path.encode())

    def read(self, name: str) -> bytes:
        """Return the content of a file; raises `OSError` with what the server responded."""
        file = ctypes.c_void_p()
        self._call("nfs_open", name.encode(), 0, ctypes.byref(file))
        content = b""
        buffer = ctypes.create_string_buffer(_CHUNK_BYTES)
        while count := self._call("nfs_read", file, ctypes.c_uint64(_CHUNK_BYTES), buffer):
            content += buffer.raw[:count]
        self._call("nfs_close", file)
        return content

    def close(self) -> None:
        """Disconnect."""
        self._libnfs.nfs_destroy_context(self._context)

    def _call(self, function: str, *arguments: object) -> int:
        result: int = getattr(self._libnfs, function)(self._context, *arguments)
        if result < 0:
            raise OSError(-result, self._libnfs.nfs_get_error(self._context).decode())
        return result


@contextmanager
def nfs_session(port: int, folder: str) -> Iterator[NfsSession]:
    """Mount a folder of the export ``/invoices``."""
    session = NfsSession(port, folder)
    try:
        yield session
    finally:
        session.close()
