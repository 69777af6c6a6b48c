"""The load program, running in the background, controlled by its caller."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import Running
from tests.soak.load import Report


class RunningLoad:
    """A load on a mount; see `tests.soak.load`."""

    def __init__(self, program: Running) -> None:
        self._program = program

    def work(self) -> None:
        """Wait until all threads together have performed some more operations."""
        self._say("work")

    def expect_the_end(self) -> None:
        """Make the load expect errors from now on."""
        self._say("ending")

    def end(self) -> Report:
        """Stop the load and return its report."""
        return Report(**json.loads(self._program.end().good().out))

    def _say(self, word: str) -> None:
        self._program.say(word)
        answer = self._program.line()
        assert answer == word, f"the load ended early: {self._program.end().err}"


@contextmanager
def load(mounts: Mounts, mount: Mount, threads: int, seed: str) -> Iterator[RunningLoad]:
    """Start a load on a mount, as the user of these mounts."""
    module = ("tests.soak.load", mount.path, str(threads), seed)
    with mounts.started_module(*module) as program:
        yield RunningLoad(program)
