"""Notifications to the service manager, for units with ``Type=notify``: see sd_notify(3)."""

import logging
import os
import socket
from typing import Self

log = logging.getLogger(__name__)

_VARIABLE = "NOTIFY_SOCKET"


class ServiceManager:
    """The service manager that started this process; none if `address` is empty."""

    def __init__(self, address: str) -> None:
        # A leading @ stands for the NUL byte of an abstract socket, see unix(7).
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    @classmethod
    def from_environment(cls) -> Self:
        """Return the manager that NOTIFY_SOCKET names, and unset it for child processes."""
        return cls(os.environ.pop(_VARIABLE, ""))

    def notify_ready(self) -> None:
        """Notify it that the mount is usable."""
        self._send("READY=1")

    def notify_stopping(self) -> None:
        """Notify it that the mount has been unmounted and the process is about to end."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.connect(self._address)
                channel.send(state.encode())
        except OSError as error:
            log.warning(
                "The service manager cannot be notified of %s: %s", state, error.strerror or error
            )
