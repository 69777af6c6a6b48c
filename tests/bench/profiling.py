"""Where the time of a mount goes: py-spy beside the command that is timed."""

import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from tests.mount.support.programs import started

_SAMPLES_PER_SECOND = 500
_PROGRAM = Path(sys.executable).with_name("py-spy")  # comes with the extra bench


@dataclass
class Profiler:
    """Samples the stacks of a mount while one row is measured.

    `stacks` is what it has seen in `watched_s`.
    """

    row: str
    folder: Path
    stacks: list[str] = field(default_factory=list)
    watched_s: float = 0.0

    @contextmanager
    def watching(self, pid: int) -> Iterator[None]:
        """Sample whoever holds the lock of the interpreter of a process.

        The other threads wait, and py-spy cannot always tell a waiting thread from a busy one.
        """
        found = self.folder / "stacks"
        argv = (
            *(_PROGRAM, "record", "--pid", str(pid), "--output", found),
            *("--format", "raw", "--rate", str(_SAMPLES_PER_SECOND), "--gil"),
        )
        with started(*argv) as sampling:
            assert sampling.line(), f"py-spy may not look at {pid}: {sampling.end().err}"
            began_s = monotonic()
            yield
            self.watched_s += monotonic() - began_s
            sampling.process.send_signal(signal.SIGINT)
            sampling.end()
        self.stacks += found.read_text(encoding="utf-8").splitlines()


@dataclass(frozen=True)
class Share:
    """How many samples were in a function: in itself, and in it or what it had called."""

    function: str
    own: int
    total: int


def shares(stacks: Iterable[str]) -> list[Share]:
    """The functions of stacks (``outer;...;inner COUNT``), those with most samples first.

    The order is that of their own samples, then of all.
    """
    own, total = Counter[str](), Counter[str]()
    for line in stacks:
        stack, _, samples = line.rpartition(" ")
        functions = [_function(frame) for frame in stack.split(";")]
        own[functions[-1]] += int(samples)
        for function in set(functions):
            total[function] += int(samples)
    found = [Share(function, own[function], count) for function, count in total.items()]
    return sorted(found, key=lambda share: (-share.own, -share.total, share.function))


def profile_lines(stacks: Iterable[str], watched_s: float, most: int) -> Iterator[str]:
    """A table of the functions with most samples of their own, and of those that call most."""
    found = shares(stacks)
    samples = sum(share.own for share in found)
    busy_s = samples / _SAMPLES_PER_SECOND
    by_total = sorted(found, key=lambda share: -share.total)
    yield f"Python ran for {busy_s:.2f} of {watched_s:.2f} s ({samples} samples)."
    for title, chosen in (("by own time", found), ("with what they call", by_total)):
        yield f"\n{'own':>6} {'total':>6}  {title}"
        for share in chosen[:most]:
            yield f"{share.own / samples:6.1%} {share.total / samples:6.1%}  {share.function}"


def _function(frame: str) -> str:
    """A frame without its line number, so that a function is counted once."""
    if not frame:
        return "outside of Python"  # on the way into a callback or out of it
    return frame.rsplit(":", 1)[0] + ")" if frame.endswith(")") and ":" in frame else frame
