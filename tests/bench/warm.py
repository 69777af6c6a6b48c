"""What is done with each contestant after everything has been downloaded, and while much waits.

The downloads before a measurement are made without latency, so that they do not take minutes.
"""

import json
import sys
from pathlib import Path
from statistics import median

from tests.bench import rows
from tests.bench.contestants import BINDFS, LOCAL, Filesystem
from tests.bench.mounting import Mounted
from tests.bench.reading import STATS_PER_FILE
from tests.bench.rows import Values
from tests.bench.stage import Stage, check_copy
from tests.bench.tenant import ARCHIVE, COUNTS, LARGE, TEN_THOUSAND
from tests.bench.waiting import OPENS
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import Running, started

WITHOUT_SERVER = (BINDFS, LOCAL)
_COPIES = 3
_WAIT_S = 4.0


def small_accesses(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure opens and stats of downloaded files."""
    copy = stage.new_folder()
    with stage.server.latency(0), stage.mounted(filesystem) as mount:
        stage.timed("", mount, "cp", "-r", mount.path / ARCHIVE, copy)
        fresh_s = stage.reading(rows.FRESH_READ, mount, "fresh", LARGE)
        return {
            rows.FRESH_READ: fresh_s,
            rows.READ_SAME: stage.reading(rows.READ_SAME, mount, "same", ARCHIVE),
            rows.WARM_READ: stage.reading(rows.WARM_READ, mount, "each", ARCHIVE),
            rows.STAT_AT_ONCE: stage.reading(rows.STAT_AT_ONCE, mount, "stat-at-once", ARCHIVE),
            **_stats(filesystem, stage, mount),
        }


def _stats(filesystem: Filesystem, stage: Stage, mount: Mounted) -> Values:
    before_s = mount.cpu_s
    stat_s = stage.reading(rows.STAT, mount, "stat", ARCHIVE)
    cpu_s = (mount.cpu_s - before_s) / (STATS_PER_FILE * COUNTS[ARCHIVE])
    return {rows.STAT: stat_s} | ({} if filesystem is LOCAL else {rows.STAT_CPU: cpu_s})


def large_copies(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure copies of a large archive after the first one."""
    copies = stage.new_folder()
    with stage.server.latency(0), stage.mounted(filesystem) as mount:
        _copy(stage, mount, "", copies / "first")
        paths = [copies / str(number) for number in range(_COPIES)]
        return {rows.LARGE_CP: median(_copy(stage, mount, rows.LARGE_CP, path) for path in paths)}


def _copy(stage: Stage, mount: Mounted, row: str, copy: Path) -> float:
    seconds = stage.timed(row, mount, "cp", "-r", mount.path / LARGE, copy)
    check_copy(copy, LARGE)
    return seconds


def second_rsync(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure rsync when it has nothing to transfer; only the first round downloads."""
    kept = stage.kept_folder(f"rsync/{filesystem.name}")
    cache, copy = kept / "cache", kept / "copy"
    cache.mkdir(exist_ok=True)
    with stage.server.latency(0), stage.mounted(filesystem, cache=cache) as mount:
        argv = ("rsync", "-a", f"{mount.path / TEN_THOUSAND}/", copy)
        stage.timed("", mount, *argv)
        check_copy(copy, TEN_THOUSAND)
        stage.server.forget_requests()
        return {rows.SECOND_RSYNC: stage.timed(rows.SECOND_RSYNC, mount, *argv)}


def waiting_opens(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure the worst stat and ``ls`` from before until after some opens that take long."""
    # All of them wait for the API at the same time, and nothing else is downloaded.
    options = ("--parallel", str(OPENS), "--read-ahead", "0")
    with stage.mounted(filesystem, options=options) as mount:
        stage.timed("", mount, "ls", "-l", mount.path / ARCHIVE)
        stage.server.forget_requests()
        with stage.server.latency(_WAIT_S):
            slowest = _slowest_s(mount.path / ARCHIVE)
        requests = stage.server.requests
        assert requests == OPENS, f"{requests} requests for {OPENS} opens"
    return {rows.WAITING_STAT: slowest["stat"], rows.WAITING_LS: slowest["ls"]}


def _slowest_s(folder: Path) -> dict[str, float]:
    program = (sys.executable, "-m", "tests.bench.waiting")
    with started(*program, "watch", folder, cwd=CHECKOUT) as watching:
        _wait_for_line(watching)
        with started(*program, "open", folder, cwd=CHECKOUT) as opening:
            opening.end().good()
        return dict(json.loads(watching.end().good().text))  # which closes its stdin


def _wait_for_line(program: Running) -> None:
    assert program.line(), f"{program.argv} ended: {program.end().err}"
