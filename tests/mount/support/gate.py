"""An answer of the server that waits for a test."""

import threading

from invoicefs.sandbox import Exchange, faults
from tests.mount.support.programs import LIMIT_S


class Gate:
    """A fault that holds an answer back until it is opened."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._opened = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        self.arrived.set()
        self._opened.wait(LIMIT_S)
        faults.honest(exchange)

    def open(self) -> None:
        self._opened.set()
