"""Stress test: processes open new files and read them at once: ``scripts/stress MINUTES``.

The API provides no sizes, so the kernel gets the true size of a file while it is first opened.
In each round several processes open the same new files in the same order and read them in
different ways, most of which do not ask for the size. Other processes call ``stat`` on these files
all the time, and the content of drafts changes. Every byte is compared with the expected content,
and so is the size that the kernel has directly after each open.

Prints a line for each phase, and a sentence for each kind of failure. Exits with status 1 if
there was any failure, or nothing was read.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import Running, eventually
from tests.stress.position import Position
from tests.stress.report import Report, broken_promises, decoded
from tests.stress.tenant import ROUNDS, schedule, tenant_of_round, with_amount
from tests.support.timed_run import exit_status, say

_READERS, _STAT_CALLERS = 6, 6
_PHASES = 10
_SECONDS_PER_MINUTE = 60
_ROUND_LIMIT_S = 300.0  # far longer than a round takes unless it is stuck
_LATENCY_S = 0.004  # long enough for all readers to reach the file that is being downloaded
_OPTIONS = (
    *("--list-ttl", "1s"),
    *("--active-ttl", "0s"),  # an open downloads a draft again, unless it is open already
    *("--cache-size", "16MiB"),
)


@dataclass(frozen=True)
class _Stage:
    """A mount, and the processes that use it."""

    sandbox: Sandbox
    mount: Mount
    position: Position
    readers: Sequence[Running]
    stat_callers: Sequence[Running]

    def run_round(self, number: int) -> Report:
        """Run a round, and return what all processes have seen."""
        self.sandbox.tenant = tenant_of_round(number)
        self.position.set(0)
        report = _sum(_ask(self.stat_callers, number))
        for reader in self.readers:
            reader.say(str(number))
        middle = len(schedule(number)) // 2
        eventually(lambda: self.position.get() >= middle, _ROUND_LIMIT_S)
        self.sandbox.tenant = with_amount(self.sandbox.tenant, number, amount=1)
        report.add(_sum([_answer(reader) for reader in self.readers]))
        report.add(_sum(_ask(self.stat_callers, number)))
        report.requests = len(self.sandbox.calls)
        self.sandbox.forget_calls()
        return report


def _ask(programs: Sequence[Running], number: int) -> list[Report]:
    """Send the number of a round to programs, and return their answers."""
    for program in programs:
        program.say(str(number))
    return [_answer(program) for program in programs]


def _answer(program: Running) -> Report:
    line = program.line(_ROUND_LIMIT_S)
    assert line, f"{program.argv} ended early: {program.end().err}"
    return decoded(line)


def _sum(reports: Sequence[Report]) -> Report:
    total = Report()
    for report in reports:
        total.add(report)
    return total


@contextmanager
def _stage() -> Iterator[_Stage]:
    """Mount, and start the processes; end all of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="invoicefs-stress-")))
        sandbox = stack.enter_context(Sandbox(tenant_of_round(0), latency_s=_LATENCY_S))
        mounts = stack.enter_context(closing(Mounts(sandbox, folder)))
        mount = mounts.mount(*_OPTIONS)
        shared = folder / "position"
        Position.create(shared)

        def started(module: str, count: int) -> Sequence[Running]:
            return [
                stack.enter_context(
                    mounts.started_module(f"tests.stress.{module}", mount.path, shared, str(seed))
                )
                for seed in range(count)
            ]

        readers = started("reader", _READERS)
        stat_callers = started("stat_caller", _STAT_CALLERS)
        yield _Stage(sandbox, mount, Position(shared), readers, stat_callers)


def _stress(stage: _Stage, minutes: float) -> list[str]:
    """Run rounds, print a line for each phase, and return a sentence for each kind of failure."""
    total, began_s, phases = Report(), monotonic(), 0
    for number in range(ROUNDS):
        total.add(stage.run_round(number))
        share = (monotonic() - began_s) / (minutes * _SECONDS_PER_MINUTE)
        if share * _PHASES >= phases + 1:
            phases = int(share * _PHASES)
            say(f"{number + 1:5} rounds: {total.line}")
        if share >= 1:
            break
    return list(broken_promises(total, stage.mount.warnings))


def main(arguments: Sequence[str]) -> int:
    """Run the stress test for a number of minutes; return the exit code."""

    def broken() -> Sequence[str]:
        with _stage() as stage:
            return _stress(stage, float(arguments[0]))

    return exit_status(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
