"""What is done with each contestant whose cache is empty: archives, and accesses meanwhile."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench import rows
from tests.bench.contestants import Filesystem
from tests.bench.delaying_proxy import running_proxy
from tests.bench.limits import LATENCY_S, SHORT_LATENCY_S
from tests.bench.mounting import Mounted
from tests.bench.pipelines import Pipeline
from tests.bench.rows import Values
from tests.bench.running_server import running_server
from tests.bench.server import Addresses
from tests.bench.stage import Stage, check_copy, run_successfully
from tests.bench.tenant import ARCHIVE, COUNTS, LARGE, OTHERS, SMALL
from tests.bench.warm import WITHOUT_SERVER
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import eventually, started
from tests.support.certificates import Authority

_SETTLED_COPIES = 16  # after these, the copy is known to be sequential


def archive(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure the first ``cp -r`` of the archive, and a second one."""
    copies = stage.new_folder()
    with stage.mounted(filesystem) as mount:
        stage.server.forget_requests()
        cold_s = _copy(rows.COLD_CP, stage, mount, copies / "cold")
        cold = {
            rows.COLD_CP: cold_s,
            rows.REQUESTS: float(stage.server.requests),
            rows.MEMORY: float(mount.memory_bytes),
        }
        stage.reading("", mount, "drop", ARCHIVE)
        warm = {rows.WARM_CP: _copy(rows.WARM_CP, stage, mount, copies / "warm")}
    return warm if filesystem in WITHOUT_SERVER else {**cold, **warm}


def archive_by_pipeline(pipeline: Pipeline, stage: Stage) -> Values:
    """Measure a pipeline; a copy with rsync is compared with it, too."""
    stage.server.forget_requests()
    cold_s = stage.piped(pipeline, stage.server.addresses, ARCHIVE)
    requests = float(stage.server.requests)
    return {rows.COLD_CP: cold_s, rows.COLD_RSYNC: cold_s, rows.REQUESTS: requests}


def archive_by_rsync(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure the first ``rsync -a`` of the archive."""
    copy = stage.new_folder()
    with stage.mounted(filesystem) as mount:
        argv = ("rsync", "-a", f"{mount.path / ARCHIVE}/", copy)
        cold_s = stage.timed(rows.COLD_RSYNC, mount, *argv)
        check_copy(copy, ARCHIVE)
    return {rows.COLD_RSYNC: cold_s}


def fast_api(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure the archive where the CPU decides, and the CPU time of a download."""
    copies = stage.new_folder()
    with (
        stage.server.latency(SHORT_LATENCY_S),
        stage.mounted(filesystem) as mount,
    ):
        before_s = mount.cpu_s
        cold_s = _copy(rows.COLD_CP_5MS, stage, mount, copies / "cold")
        cpu_s = (mount.cpu_s - before_s) / COUNTS[ARCHIVE]
    return {rows.COLD_CP_5MS: cold_s, rows.DOWNLOAD_CPU: cpu_s}


def fast_api_by_pipeline(pipeline: Pipeline, stage: Stage) -> Values:
    """Measure a pipeline where the CPU decides."""
    with stage.server.latency(SHORT_LATENCY_S):
        return {rows.COLD_CP_5MS: stage.piped(pipeline, stage.server.addresses, ARCHIVE)}


def small_namespaces(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure a copy of a whole mount that has many small namespaces."""
    copies = stage.new_folder()
    with (
        running_server(LATENCY_S, "small-namespaces") as server,
        stage.mounted(filesystem, server.addresses) as mount,
    ):
        argv = ("cp", "-r", mount.path, copies / "cold")
        cold_s = stage.timed(rows.COLD_CP_SMALL, mount, *argv)
        for namespace in SMALL:
            check_copy(copies / "cold" / namespace, namespace)
    return {rows.COLD_CP_SMALL: cold_s}


def small_namespaces_by_pipeline(pipeline: Pipeline, stage: Stage) -> Values:
    """Measure a pipeline that knows the names of the namespaces, as a mount does."""
    with running_server(LATENCY_S, "small-namespaces") as server:
        return {rows.COLD_CP_SMALL: stage.piped(pipeline, server.addresses, *SMALL)}


def over_tls(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure the archive over TLS and a long line."""
    copies = stage.new_folder()
    with (
        _long_line(stage) as addresses,
        stage.mounted(filesystem, addresses) as mount,
    ):
        return {rows.COLD_CP_TLS: _copy(rows.COLD_CP_TLS, stage, mount, copies / "cold")}


def over_tls_by_pipeline(pipeline: Pipeline, stage: Stage) -> Values:
    """Measure a pipeline over TLS and a long line."""
    with _long_line(stage) as addresses:
        return {rows.COLD_CP_TLS: stage.piped(pipeline, addresses, ARCHIVE)}


def elsewhere(
    ls_row: str, open_row: str, latency_s: float
) -> Callable[[Filesystem, Stage], Values]:
    """Return what measures the worst accesses to other namespaces during a copy."""

    def measure(filesystem: Filesystem, stage: Stage) -> Values:
        with (
            stage.mounted(filesystem) as mount,
            stage.server.latency(latency_s),
            _copying(stage, mount),
        ):
            folders = [mount.path / name for name in OTHERS]
            module = (sys.executable, "-m", "tests.bench.elsewhere", str(latency_s))
            slowest = json.loads(run_successfully(*module, *folders, cwd=CHECKOUT).text)
        return {ls_row: slowest["ls"], open_row: slowest["read"]}

    return measure


@contextmanager
def _copying(stage: Stage, mount: Mounted) -> Iterator[None]:
    """Copy a large namespace, from when the copy is well under way; fail if it ends too early."""
    copy = stage.new_folder() / "cold"
    with started("cp", "-r", mount.path / LARGE, copy) as copying:
        eventually(lambda: copy.exists() and len(list(copy.iterdir())) >= _SETTLED_COPIES)
        yield
        assert not copying.has_ended, "the copy ended too early"


@contextmanager
def _long_line(stage: Stage) -> Iterator[Addresses]:
    """Serve the archive over TLS, behind a line whose round trip takes `LATENCY_S`."""
    authority = Authority(stage.new_folder() / "authority")
    pem = authority.issue("server", hosts=["IP:127.0.0.1"]).pem()
    with running_server(0, "archive", pem) as server:
        port = urlsplit(server.addresses.api_url).port
        assert port is not None
        with running_proxy(port, LATENCY_S / 2) as proxy_port:
            url = f"https://127.0.0.1:{proxy_port}"
            bundle = str(authority.certificate)
            yield replace(server.addresses, api_url=url, ca_bundle=bundle)


def _copy(row: str, stage: Stage, mount: Mounted, copy: Path) -> float:
    seconds = stage.timed(row, mount, "cp", "-r", mount.path / ARCHIVE, copy)
    check_copy(copy, ARCHIVE)
    return seconds
