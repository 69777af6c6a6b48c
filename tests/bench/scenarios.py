"""What is done with each contestant, and the measured values.

A scenario measures several rows if one mount can be used for all of them.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.bench import rows, warm
from tests.bench.contestants import (
    BINDFS,
    FSSPEC,
    HTTPDIRFS,
    INVOICEFS,
    RCLONE,
    RCLONE_WITHOUT_SIZES,
    SEQUENTIAL,
    XARGS,
    Filesystem,
    Pipeline,
)
from tests.bench.mounting import Mounted
from tests.bench.rows import Values
from tests.bench.running_server import running_server
from tests.bench.stage import Stage, check_copy
from tests.bench.tenant import (
    ARCHIVE,
    COUNTS,
    CROWDED,
    HUNDRED_THOUSAND,
    TEN_THOUSAND,
    THOUSAND,
)
from tests.bench.warm import WITHOUT_SERVER

_SETTLED_S = 0.5  # after this time, a mount has finished its background work on a listing
_LATENCY_S = 0.05  # of the API with many namespaces


@dataclass(frozen=True)
class Scenario:
    """Rows that are measured together, for some contestants.

    `max_rounds` limits the rounds of contestants that would take too long.
    """

    name: str
    rows: tuple[str, ...]
    runs: Mapping[str, Callable[[Stage], Values]]
    max_rounds: Mapping[str, int] = field(default_factory=dict)


def _mounting(filesystem: Filesystem, stage: Stage) -> Values:
    with stage.mounted(filesystem) as mount:
        return {rows.USABLE: mount.usable_s}


def _archive(filesystem: Filesystem, stage: Stage) -> Values:
    with stage.mounted(filesystem) as mount, stage.new_folder() as copies:
        stage.server.forget_requests()
        cold_s = stage.timed(rows.COLD_CP, mount, "cp", "-r", mount.path / ARCHIVE, copies / "cold")
        cold = {
            rows.COLD_CP: cold_s,
            rows.REQUESTS: float(stage.server.requests),
            rows.MEMORY: float(mount.memory_bytes),
        }
        check_copy(copies / "cold", ARCHIVE)
        stage.reading("", mount, "drop", ARCHIVE)
        warm_s = stage.timed(rows.WARM_CP, mount, "cp", "-r", mount.path / ARCHIVE, copies / "warm")
        check_copy(copies / "warm", ARCHIVE)
    warm = {rows.WARM_CP: warm_s}
    return warm if filesystem in WITHOUT_SERVER else {**cold, **warm}


def _archive_by_rsync(filesystem: Filesystem, stage: Stage) -> Values:
    with stage.mounted(filesystem) as mount, stage.new_folder() as copy:
        argv = ("rsync", "-a", f"{mount.path / ARCHIVE}/", copy)
        cold_s = stage.timed(rows.COLD_RSYNC, mount, *argv)
        check_copy(copy, ARCHIVE)
    return {rows.COLD_RSYNC: cold_s}


def _archive_by_pipeline(pipeline: Pipeline, stage: Stage) -> Values:
    with stage.new_folder() as copy:
        stage.server.forget_requests()
        env = pipeline.environment(stage.server.addresses)
        argv = ("bash", "-c", pipeline.script)
        cold_s = stage.timed("", None, *argv, cwd=copy, env=env)
        requests = stage.server.requests
        check_copy(copy, ARCHIVE)
    return {rows.COLD_CP: cold_s, rows.COLD_RSYNC: cold_s, rows.REQUESTS: float(requests)}


def _listing_with_stat(filesystem: Filesystem, stage: Stage) -> Values:
    with stage.mounted(filesystem) as mount:
        argv = ("ls", "-l", mount.path / THOUSAND)
        return {row: stage.timed(row, mount, *argv) for row in (rows.FIRST_LS, rows.SECOND_LS)}


def _listing(filesystem: Filesystem, stage: Stage) -> Values:
    with stage.mounted(filesystem) as mount:
        _list(stage, mount, "", CROWDED)
        before_bytes = mount.memory_bytes
        long_s = _list(stage, mount, rows.LIST_100K, HUNDRED_THOUSAND)
        threading.Event().wait(_SETTLED_S)
        grown_bytes = mount.memory_bytes - before_bytes
        short_s = _list(stage, mount, rows.LIST_10K, TEN_THOUSAND)
    return {
        rows.LIST_10K: short_s,
        rows.LIST_100K: long_s,
        rows.LINEARITY: long_s / short_s,
        rows.INVOICE_MEMORY: grown_bytes / COUNTS[HUNDRED_THOUSAND],
    }


def _many_namespaces(filesystem: Filesystem, stage: Stage) -> Values:
    with (
        running_server(_LATENCY_S, "namespaces") as server,
        stage.mounted(filesystem, server.addresses) as mount,
    ):
        again_s = stage.timed(rows.NAMESPACES_100K, mount, "ls", "-f", mount.path)
        return {rows.NAMESPACES_100K: mount.usable_s + again_s}


def _list(stage: Stage, mount: Mounted, row: str, folder: str) -> float:
    names = COUNTS[folder] + 2  # including . and ..
    counted = f'test $(ls -f "$1" | wc -l) = {names}'
    return stage.timed(row, mount, "sh", "-c", counted, "sh", mount.path / folder)


def _crowd(filesystem: Filesystem, stage: Stage) -> Values:
    with stage.mounted(filesystem) as mount:
        stage.timed("", mount, "ls", "-l", mount.path / CROWDED)
        stage.server.forget_requests()
        contents = stage.reading("", mount, "crowd", CROWDED)
        assert contents == 1, f"{contents} different contents were read"
        return {rows.CROWD: float(stage.server.requests)}


def _runs(
    run: Callable[[Filesystem, Stage], Values], *filesystems: Filesystem
) -> dict[str, Callable[[Stage], Values]]:
    return {filesystem.name: partial(run, filesystem) for filesystem in filesystems}


_REMOTE = (RCLONE, HTTPDIRFS, FSSPEC)
_PIPELINES: dict[str, Callable[[Stage], Values]] = {
    pipeline.name: partial(_archive_by_pipeline, pipeline) for pipeline in (SEQUENTIAL, XARGS)
}


def scenarios(subjects: Sequence[Filesystem] = (INVOICEFS,)) -> tuple[Scenario, ...]:
    """Return all scenarios for these revisions of invoicefs and the other contestants."""
    return (
        Scenario("mounting", (rows.USABLE,), _runs(_mounting, *subjects, *_REMOTE, BINDFS)),
        Scenario(
            "ls -l",
            (rows.FIRST_LS, rows.SECOND_LS),
            _runs(_listing_with_stat, *subjects, *_REMOTE, RCLONE_WITHOUT_SIZES, *WITHOUT_SERVER),
            max_rounds={HTTPDIRFS.name: 1},
        ),
        Scenario(
            "listing",
            (rows.LIST_10K, rows.LIST_100K, rows.LINEARITY, rows.INVOICE_MEMORY),
            _runs(_listing, *subjects, RCLONE_WITHOUT_SIZES, FSSPEC),
        ),
        Scenario("namespaces", (rows.NAMESPACES_100K,), _runs(_many_namespaces, *subjects)),
        Scenario("crowd", (rows.CROWD,), _runs(_crowd, *subjects, *_REMOTE)),
        Scenario(
            "waiting opens",
            (rows.WAITING_STAT, rows.WAITING_LS),
            _runs(warm.waiting_opens, *subjects),
        ),
        Scenario(
            "archive",
            (rows.COLD_CP, rows.WARM_CP, rows.MEMORY, rows.REQUESTS),
            {**_runs(_archive, *subjects, *_REMOTE, *WITHOUT_SERVER), **_PIPELINES},
            max_rounds={HTTPDIRFS.name: 1},
        ),
        Scenario("rsync", (rows.COLD_RSYNC,), _runs(_archive_by_rsync, *subjects, RCLONE, FSSPEC)),
        Scenario(
            "small accesses",
            (
                *(rows.READ_SAME, rows.WARM_READ, rows.FRESH_READ),
                *(rows.STAT, rows.STAT_AT_ONCE, rows.STAT_CPU),
            ),
            _runs(warm.small_accesses, *subjects, RCLONE, FSSPEC, *WITHOUT_SERVER),
        ),
        Scenario(
            "large copies",
            (rows.LARGE_CP,),
            _runs(warm.large_copies, *subjects, RCLONE, FSSPEC, *WITHOUT_SERVER),
        ),
        Scenario(
            "second rsync",
            (rows.SECOND_RSYNC,),
            _runs(warm.second_rsync, *subjects, RCLONE, *WITHOUT_SERVER),
            max_rounds={RCLONE.name: 1},
        ),
    )
