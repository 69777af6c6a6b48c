"""An SMB client that shows what a server responds, by smbprotocol."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from smbprotocol.connection import Connection
from smbprotocol.create_contexts import (
    CreateContextName,
    LeaseState,
    SMB2CreateContextRequest,
    SMB2CreateRequestLease,
)
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    FileAttributes,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    RequestedOplockLevel,
    ShareAccess,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from tests.mount.support.programs import LIMIT_S

_READ_BYTES: Final = 64 * 1024


class OpenFile:
    """A file that is open on the server; the request asked for a lease, as Windows does."""

    def __init__(self, tree: TreeConnect, path: str) -> None:
        self._open = Open(tree, path)
        self._open.create(
            ImpersonationLevel.Impersonation,
            FilePipePrinterAccessMask.GENERIC_READ,
            FileAttributes.FILE_ATTRIBUTE_NORMAL,
            ShareAccess.FILE_SHARE_READ,
            CreateDisposition.FILE_OPEN,
            CreateOptions.FILE_NON_DIRECTORY_FILE,
            [_lease()],
            RequestedOplockLevel.SMB2_OPLOCK_LEVEL_LEASE,
        )

    @property
    def size_bytes(self) -> int:
        """The size in the response to the request that opened it."""
        return int(self._open.end_of_file)

    @property
    def may_be_cached(self) -> bool:
        """Whether the server has granted an oplock or a lease."""
        return bool(self._open.oplock_level)

    def read(self) -> bytes:
        """Return as many bytes as that size says; fails if there are fewer."""
        offsets = range(0, self.size_bytes, _READ_BYTES)
        return b"".join(
            self._open.read(at, min(_READ_BYTES, self.size_bytes - at)) for at in offsets
        )

    def close(self) -> None:
        """Close it on the server."""
        self._open.close()


@contextmanager
def connected(
    host: str, port: int, share: str, account: str, password: str
) -> Iterator[TreeConnect]:
    """Use a share over a connection of its own, as another machine would."""
    connection = Connection(uuid.uuid4(), host, port)
    connection.connect(timeout=LIMIT_S)
    try:
        session = Session(connection, account, password, auth_protocol="ntlm")
        session.connect()
        tree = TreeConnect(session, rf"\\{host}\{share}")
        tree.connect()
        yield tree
    finally:
        connection.disconnect(timeout=LIMIT_S)


def _lease() -> SMB2CreateContextRequest:
    lease = SMB2CreateRequestLease()
    lease["lease_key"] = uuid.uuid4().bytes
    lease["lease_state"] = LeaseState.SMB2_LEASE_READ_CACHING | LeaseState.SMB2_LEASE_HANDLE_CACHING
    request = SMB2CreateContextRequest()
    request["buffer_name"] = CreateContextName.SMB2_CREATE_REQUEST_LEASE
    request["buffer_data"] = lease
    return request
