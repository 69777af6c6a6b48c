"""A response of the server that waits for the test."""

import threading

from invoicefs.sandbox import Exchange, faults
from tests.mount.support.programs import LIMIT_S


class Gate:
    """A fault that delays a response until the gate is opened."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.is_over = False
        self._opened = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        self.arrived.set()
        self._opened.wait(LIMIT_S)
        self.is_over = True
        faults.honest(exchange)

    def open(self) -> None:
        self._opened.set()
