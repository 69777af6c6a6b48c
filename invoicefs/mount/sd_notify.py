"""Tells the service manager how the mount is, for units with ``Type=notify``: see sd_notify(3)."""

import logging
import os
import socket
from typing import Self

log = logging.getLogger(__name__)

_VARIABLE = "NOTIFY_SOCKET"


class ServiceManager:
    """Whoever started this process and wants to know; nobody where `address` is empty."""

    def __init__(self, address: str) -> None:
        # In the variable an @ stands for the zero byte of an abstract socket, see unix(7).
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    @classmethod
    def of_environment(cls) -> Self:
        """The one that the environment names, which no program started from here then inherits."""
        return cls(os.environ.pop(_VARIABLE, ""))

    def tell_ready(self) -> None:
        """Say that the mount is usable."""
        self._tell("READY=1")

    def tell_stopping(self) -> None:
        """Say that the mount has gone, and the rest will follow."""
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.connect(self._address)
                channel.send(state.encode())
        except OSError as error:
            log.warning("The service manager cannot be told %s: %s", state, error.strerror or error)
