"""The only table that maps exceptions of the domain to an errno(3) for programs."""

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
    UnusableResponse,
)

ERRNO: Final[Mapping[type[InvoicefsError], int]] = MappingProxyType(
    {
        Denied: errno.EACCES,
        NotFound: errno.ENOENT,
        Busy: errno.EBUSY,
        RateLimited: errno.EAGAIN,
        Unavailable: errno.EAGAIN,
        TimedOut: errno.ETIMEDOUT,
        # Programs would attribute ECONNREFUSED to a server of their own.
        Unreachable: errno.EHOSTUNREACH,
        OutOfDescriptors: errno.EMFILE,
        OutOfMemory: errno.ENOMEM,
        UntrustedServer: errno.EIO,
        ServerFault: errno.EIO,
        UnusableResponse: errno.EIO,
        TooLarge: errno.EFBIG,
        ReadOnly: errno.EROFS,
        BadHandle: errno.EBADF,
        NameTooLong: errno.ENAMETOOLONG,
        NoAttribute: errno.ENODATA,
        # Seldom reaches a program: the kernel repeats the open.
        Outdated: errno.ESTALE,
    }
)


def errno_of(error: InvoicefsError) -> int:
    """Return the errno of an exception: that of its class, or of its nearest base class."""
    return next((ERRNO[kind] for kind in type(error).__mro__ if kind in ERRNO), errno.EIO)
