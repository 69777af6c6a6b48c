"""What is done with each contestant that can list very many files."""

import sys
import threading

from tests.bench import rows
from tests.bench.contestants import Filesystem
from tests.bench.limits import LATENCY_S
from tests.bench.mounting import Mounted
from tests.bench.rows import Values
from tests.bench.running_server import RunningServer, running_server
from tests.bench.stage import Stage, run_successfully
from tests.bench.tenant import (
    COUNTS,
    CROWDED,
    HUNDRED_THOUSAND,
    TEN_THOUSAND,
    THREE_HUNDRED_THOUSAND,
)
from tests.mount.support.mounts import CHECKOUT

_MOST_LISTINGS = 4  # of namespaces and of invoices, which may have become too old meanwhile
_SETTLED_S = 0.5  # after this time, a mount has finished its background work on a listing


def listing(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure the first ``ls -f`` of large namespaces."""
    with stage.mounted(filesystem) as mount:
        _list(stage, mount, "", CROWDED)
        before_bytes = mount.memory_bytes
        long_s = _list(stage, mount, rows.LIST_100K, HUNDRED_THOUSAND)
        grown_bytes = _settled_bytes(mount) - before_bytes
        short_s = _list(stage, mount, rows.LIST_10K, TEN_THOUSAND)
    return {
        rows.LIST_10K: short_s,
        rows.LIST_100K: long_s,
        rows.LINEARITY: long_s / short_s,
        rows.INVOICE_MEMORY: grown_bytes / COUNTS[HUNDRED_THOUSAND],
    }


def linearity(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure how much more 300 000 invoices take than 100 000."""
    with running_server(LATENCY_S, "large-listings") as server:
        short_s, short_bytes = _listed(filesystem, stage, server, HUNDRED_THOUSAND)
        long_s, long_bytes = _listed(filesystem, stage, server, THREE_HUNDRED_THOUSAND)
    return {
        rows.LINEARITY_300K: long_s / short_s,
        rows.MEMORY_LINEARITY: long_bytes / short_bytes,
    }


def _listed(
    filesystem: Filesystem, stage: Stage, server: RunningServer, namespace: str
) -> tuple[float, float]:
    """Return the seconds of ``ls -f`` in a mount of its own, and by how many bytes that grows."""
    with stage.mounted(filesystem, server.addresses) as mount:
        _list(stage, mount, "", CROWDED)
        before_bytes = mount.memory_bytes
        seconds = _list(stage, mount, "", namespace)
        return seconds, _settled_bytes(mount) - before_bytes


def listing_with_stat(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure programs that stat each of 100 000 files, none of which has been downloaded."""
    folder = stage.new_folder()
    with stage.mounted(filesystem) as mount:
        _list(stage, mount, "", CROWDED)
        before_bytes = mount.memory_bytes
        source, copy = mount.path / HUNDRED_THOUSAND, folder / "copy"
        first_s = stage.timed(rows.FIRST_LS_100K, mount, "ls", "-l", source)
        grown_bytes = _settled_bytes(mount) - before_bytes
        second_s = stage.timed(rows.SECOND_LS_100K, mount, "ls", "-l", source)
        run_successfully(sys.executable, "-m", "tests.bench.mirrored", source, copy, cwd=CHECKOUT)
        stage.server.forget_requests()
        argv = ("rsync", "-a", f"{source}/", copy)
        rsync_s = stage.timed(rows.SECOND_RSYNC_100K, mount, *argv)
        requests = stage.server.requests
        assert requests <= _MOST_LISTINGS, f"rsync caused {requests} requests"
    return {
        rows.FIRST_LS_100K: first_s,
        rows.SECOND_LS_100K: second_s,
        rows.SECOND_RSYNC_100K: rsync_s,
        rows.STAT_MEMORY: grown_bytes / COUNTS[HUNDRED_THOUSAND],
    }


def many_namespaces(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure a mount that has very many namespaces."""
    with (
        running_server(LATENCY_S, "empty-namespaces") as server,
        stage.mounted(filesystem, server.addresses) as mount,
    ):
        again_s = stage.timed(rows.NAMESPACES_100K, mount, "ls", "-f", mount.path)
        return {rows.NAMESPACES_100K: mount.usable_s + again_s}


def _settled_bytes(mount: Mounted) -> int:
    threading.Event().wait(_SETTLED_S)
    return mount.memory_bytes


def _list(stage: Stage, mount: Mounted, row: str, folder: str) -> float:
    names = COUNTS[folder] + 2  # including . and ..
    counted = f'test $(ls -f "$1" | wc -l) = {names}'
    return stage.timed(row, mount, "sh", "-c", counted, "sh", mount.path / folder)
