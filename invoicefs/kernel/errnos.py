"""The one table that turns exceptions of the domain into what programs are told: errno(3)."""

import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from invoicefs.errors import (
    BadHandle,
    Busy,
    Denied,
    InvoicefsError,
    NameTooLong,
    NoAttribute,
    NotFound,
    Outdated,
    OutOfDescriptors,
    OutOfMemory,
    RateLimited,
    ReadOnly,
    ServerFault,
    TimedOut,
    TooLarge,
    Unavailable,
    Unreachable,
    UntrustedServer,
    UnusableAnswer,
)

ERRNO: Final[Mapping[type[InvoicefsError], int]] = MappingProxyType(
    {
        Denied: errno.EACCES,
        NotFound: errno.ENOENT,
        Busy: errno.EBUSY,
        RateLimited: errno.EAGAIN,
        Unavailable: errno.EAGAIN,
        TimedOut: errno.ETIMEDOUT,
        # Not ECONNREFUSED: programs take that for an answer of the file's own server.
        Unreachable: errno.EHOSTUNREACH,
        OutOfDescriptors: errno.EMFILE,
        OutOfMemory: errno.ENOMEM,
        UntrustedServer: errno.EIO,
        ServerFault: errno.EIO,
        UnusableAnswer: errno.EIO,
        TooLarge: errno.EFBIG,
        ReadOnly: errno.EROFS,
        BadHandle: errno.EBADF,
        NameTooLong: errno.ENAMETOOLONG,
        NoAttribute: errno.ENODATA,
        # Never reaches a program: at ESTALE the kernel looks the name up and opens it once more.
        Outdated: errno.ESTALE,
    }
)


def errno_of(error: InvoicefsError) -> int:
    """The errno of an exception: that of its class, else of the nearest class above it."""
    return next((ERRNO[each] for each in type(error).__mro__ if each in ERRNO), errno.EIO)
