"""The server program, running in the background."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.server import Addresses
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import Running, started


class RunningServer:
    """The server of all contestants; see `tests.bench.server`."""

    def __init__(self, program: Running, latency_s: float) -> None:
        self._program = program
        self._latency_s = latency_s
        self.addresses = Addresses(**json.loads(self._line()))

    def forget_requests(self) -> None:
        """Reset the number of requests."""
        self._request("forget")

    @contextmanager
    def latency(self, latency_s: float) -> Iterator[None]:
        """Change the latency for a while."""
        self._request(f"latency {latency_s}")
        try:
            yield
        finally:
            self._request(f"latency {self._latency_s}")

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
def running_server(
    latency_s: float, tenant: str, pem: Path | None = None
) -> Iterator[RunningServer]:
    """Start a server with this latency and one of the `TENANTS`.

    With the certificate and the key in `pem`, its API is served over HTTPS.
    """
    argv = (sys.executable, "-m", "tests.bench.server", str(latency_s), tenant)
    with started(*argv, *((pem,) if pem else ()), cwd=CHECKOUT) as program:
        yield RunningServer(program, latency_s)
