"""The server program, running in the background."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.server import Addresses
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import Running, started


class RunningServer:
    """The server of all contestants; see `tests.bench.server`."""

    def __init__(self, program: Running) -> None:
        self._program = program
        self.addresses = Addresses(**json.loads(self._line()))

    def forget_requests(self) -> None:
        """Reset the number of requests."""
        self._request("forget")

    @property
    def requests(self) -> int:
        """The number of requests since the last `forget_requests`."""
        return int(self._request("count"))

    def _request(self, word: str) -> str:
        self._program.say(word)
        return self._line()

    def _line(self) -> str:
        line = self._program.line()
        assert line, f"the server ended: {self._program.end().err}"
        return line


@contextmanager
def running_server(latency_s: float) -> Iterator[RunningServer]:
    """Start a server with this latency."""
    argv = (sys.executable, "-m", "tests.bench.server", str(latency_s))
    with started(*argv, cwd=CHECKOUT) as program:
        yield RunningServer(program)
