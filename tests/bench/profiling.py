"""Where a mount spends its time: py-spy runs during the timed command."""

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

    `stacks` are the samples of `watched_s` seconds.
    """

    row: str
    folder: Path
    stacks: list[str] = field(default_factory=list)
    watched_s: float = 0.0

    @contextmanager
    def watching(self, pid: int) -> Iterator[None]:
        """Sample the thread that holds the global interpreter lock of a process.

        The others wait, and py-spy cannot always distinguish a waiting thread from a busy one.
        """
        found = self.folder / "stacks"
        argv = (
            *(_PROGRAM, "record", "--pid", str(pid), "--output", found),
            *("--format", "raw", "--rate", str(_SAMPLES_PER_SECOND), "--gil"),
        )
        with started(*argv) as sampling:
            assert sampling.line(), f"py-spy may not trace {pid}: {sampling.end().err}"
            began_s = monotonic()
            yield
            self.watched_s += monotonic() - began_s
            sampling.process.send_signal(signal.SIGINT)
            sampling.end()
        self.stacks += found.read_text(encoding="utf-8").splitlines()


@dataclass(frozen=True)
class Share:
    """The number of samples in a function itself, and in it and the functions it called."""

    function: str
    own: int
    total: int


def shares(stacks: Iterable[str]) -> list[Share]:
    """Return the functions of stacks (``outer;...;inner COUNT``), most samples first.

    They are sorted by their own samples, then by their total.
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
    """Yield two tables: the functions with most own samples, and those with most in total."""
    found = shares(stacks)
    samples = sum(share.own for share in found)
    busy_s = samples / _SAMPLES_PER_SECOND
    by_total = sorted(found, key=lambda share: -share.total)
    yield f"Python ran for {busy_s:.2f} of {watched_s:.2f} s ({samples} samples)."
    for title, chosen in (("by own time", found), ("by total time", by_total)):
        yield f"\n{'own':>6} {'total':>6}  {title}"
        for share in chosen[:most]:
            yield f"{share.own / samples:6.1%} {share.total / samples:6.1%}  {share.function}"


def _function(frame: str) -> str:
    """Return a frame without its line number, so that a function is counted once."""
    if not frame:
        return "outside of Python"  # entering or leaving a callback
    return frame.rsplit(":", 1)[0] + ")" if frame.endswith(")") and ":" in frame else frame
