"""Compares invoicefs with other ways to get the same invoices: ``scripts/bench``.

Prints, as Markdown, ratios of medians of several rounds. In a round each contestant has its turn,
so a temporary slowdown of the machine affects all of them. A missed target is reported but is not
a failure; the run fails only if invoicefs cannot be measured.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired

from tests.bench.comparison import Comparison, reason, scenarios_for
from tests.bench.contestants import CONTESTANTS, INVOICEFS, Filesystem, invoicefs_at
from tests.bench.json_results import as_json
from tests.bench.limits import LATENCY_S
from tests.bench.machine import description
from tests.bench.mounting import end_mounts
from tests.bench.notes import EXPLANATION, NOTES
from tests.bench.profiling import Profiler, profile_lines
from tests.bench.revision import checked_out, commit_of
from tests.bench.rows import PROFILED, ROWS, Row
from tests.bench.running_server import running_server
from tests.bench.stage import Stage, make_local_files
from tests.bench.table import Table

_ROUNDS = 3
_PREFIX = "invoicefs-bench-"
_MAX_FUNCTIONS = 15
_KEYS = [row.key for row in ROWS]


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return rounds


@dataclass(frozen=True)
class Revision:
    """A revision as it was given, and the hash of its commit."""

    name: str
    commit: str


def _revision(text: str) -> Revision:
    commit = commit_of(text)
    if commit is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a commit of this repository")
    return Revision(text, commit)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Compare invoicefs with other ways to get the same invoices.",
    )
    parser.add_argument(
        "--rounds", type=_rounds, default=_ROUNDS, help=f"number of rounds (default: {_ROUNDS})"
    )
    parser.add_argument("--quick", action="store_true", help="run one round only")
    parser.add_argument(
        *("--rows",),
        nargs="+",
        choices=_KEYS,
        default=_KEYS,
        metavar="ROW",
        help=f"measure only these rows: {', '.join(_KEYS)}",
    )
    parser.add_argument(
        *("--json",),
        type=Path,
        metavar="FILE",
        help="also write all measured values and their medians to a file",
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        *("--compare",),
        type=_revision,
        metavar="REV",
        help="also measure another revision of this repository, in the same rounds",
    )
    ways.add_argument(
        *("--profile",),
        choices=PROFILED,
        metavar="ROW",
        help=f"profile invoicefs in one row instead of measuring: {', '.join(PROFILED)}",
    )
    return parser.parse_args(argv)


@contextmanager
def _stage(profiled_row: str | None) -> Iterator[Stage]:
    _end_leftovers()
    with (
        tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as name,
        running_server(LATENCY_S, "invoices") as server,
    ):
        folder = Path(name)
        make_local_files(folder / "local")
        profiler = Profiler(profiled_row, folder) if profiled_row else None
        try:
            yield Stage(server, folder, folder / "local", profiler)
        finally:
            end_mounts(folder)


def _end_leftovers() -> None:
    """End the mounts of killed runs; their folders contain the process ID in their names."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid, _, _ = folder.name.removeprefix(_PREFIX).partition("-")
        if folder.lstat().st_uid == os.getuid() and not Path("/proc", pid).exists():
            end_mounts(folder)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _subjects(revision: Revision | None, stage: Stage) -> Iterator[Sequence[Filesystem]]:
    """Yield the revisions of invoicefs that are measured; that of this checkout is the first."""
    if revision is None:
        yield (INVOICEFS,)
        return
    with checked_out(revision.commit, stage.folder / "revision") as folder:
        yield (INVOICEFS, invoicefs_at(revision.name, folder))


def _compare(
    rows: Sequence[str], rounds: int, revision: Revision | None, json_file: Path | None
) -> int:
    with _stage(None) as stage:
        with _subjects(revision, stage) as subjects:
            comparison = Comparison((*subjects, *CONTESTANTS[1:]))
            comparison.compare(stage, scenarios_for(rows, subjects), rounds)
        # Before the folder is removed, which takes long on some disks.
        _report(comparison, rows, revision, json_file)
    return int(any(name == INVOICEFS.name for name, _ in comparison.excluded))


def _report(
    comparison: Comparison, rows: Sequence[str], revision: Revision | None, json_file: Path | None
) -> None:
    chosen = [row for row in ROWS if row.key in rows]
    notes = [f"`{revision.name}` is {revision.commit}."] if revision else []
    notes += comparison.notes
    _print_table(chosen, comparison, (*NOTES, *notes))
    if json_file:
        facts = {"description": description(), "head": commit_of("HEAD"), "notes": notes}
        text = as_json(chosen, comparison.results, facts)
        json_file.write_text(f"{text}\n", encoding="utf-8")


def _print_table(rows: Sequence[Row], comparison: Comparison, notes: Sequence[str]) -> None:
    _say(f"{EXPLANATION}\n")
    names = [contestant.name for contestant in comparison.contestants]
    for line in Table(rows, names, comparison.results).lines():
        _say(line)
    _say("")
    for note in notes:
        _say(f"- {note}")
    _say(f"\n{description()}.")


def _profile(row: str) -> int:
    (scenario,) = scenarios_for([row])
    with _stage(row) as stage:
        assert stage.profiler is not None
        try:
            scenario.runs[INVOICEFS.name](stage)
        except (AssertionError, TimeoutExpired) as error:
            _say(reason(error, stage.folder))
            return 1
        profiler = stage.profiler
    for line in profile_lines(profiler.stacks, profiler.watched_s, _MAX_FUNCTIONS):
        _say(line)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main(argv: Sequence[str]) -> int:
    """Compare or profile; return the exit code."""
    # SIGTERM and Ctrl-C also end the mounts and the server.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    given = _arguments(argv)
    if given.profile:
        return _profile(given.profile)
    rounds = 1 if given.quick else given.rounds
    return _compare(given.rows, rounds, given.compare, given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
