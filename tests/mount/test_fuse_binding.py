"""The binding to libfuse, without the kernel: what libfuse gets from each callback."""

import ctypes
import errno
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from invoicefs.errors import UserError
from invoicefs.kernel.fuse_binding import Binding

PDF = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture
def binding() -> Any:
    """A binding that mounts nothing, with one open file."""
    binding: Any = Binding.__new__(Binding)
    binding.operations = lambda _operation, _path, size, offset, _handle: memoryview(PDF)[
        offset : offset + size
    ]
    binding._states = SimpleNamespace(keep=lambda: None)
    return binding


def raising(error: BaseException) -> Callable[[], None]:
    def callback() -> None:
        raise error

    return callback


@pytest.mark.parametrize(
    ("error", "returned"),
    [
        (OSError(errno.ENOENT, "none"), -errno.ENOENT),
        (OSError("no errno"), -errno.EIO),
        (MemoryError(), -errno.EIO),
        (UserError("of another layer"), -errno.EIO),
        (SystemExit(1), -errno.EIO),
    ],
)
def test_every_exception_is_a_negative_errno(
    binding: Any, error: BaseException, returned: int
) -> None:
    """Ctypes returns a random number for an exception, which libfuse takes for a length."""
    assert binding._wrapper(raising(error)) == returned


@pytest.mark.parametrize("size_bytes", [0, 1, 131_072, 2 * 1024 * 1024, 3 * 1024 * 1024])
@pytest.mark.parametrize("offset", [0, 70_001, len(PDF) - 1, len(PDF)])
def test_a_read_of_any_size_fills_the_buffer(binding: Any, size_bytes: int, offset: int) -> None:
    buffer = ctypes.create_string_buffer(b"\xff" * size_bytes, size_bytes + 1)
    pointer = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_byte))
    info = SimpleNamespace(contents=SimpleNamespace(fh=1))
    wanted = PDF[offset : offset + size_bytes]
    assert binding.read(None, pointer, size_bytes, offset, info) == len(wanted)
    assert buffer.raw == wanted + b"\xff" * (size_bytes - len(wanted)) + b"\0"
