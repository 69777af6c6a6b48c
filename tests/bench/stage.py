"""The environment of a measurement: the server, temporary folders, commands with a time limit."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from tests.bench.contestants import Filesystem, Place
from tests.bench.mounting import Mounted, mounted
from tests.bench.pipelines import Pipeline
from tests.bench.profiling import Profiler
from tests.bench.running_server import RunningServer
from tests.bench.server import Addresses
from tests.bench.tenant import ARCHIVE, LARGE, TEN_THOUSAND, THOUSAND, files_of
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import Argument, Ended, run, started

_LIMIT_S = 150.0  # for one command; the slowest contestant takes a quarter of it


@dataclass(frozen=True)
class Stage:
    """Everything that the contestants share.

    `local_files` is a folder with the files of the server, for contestants that need no server.
    """

    server: RunningServer
    folder: Path
    local_files: Path
    profiler: Profiler | None = None
    _kept: dict[str, Path] = field(default_factory=dict, init=False)

    @contextmanager
    def mounted(
        self,
        filesystem: Filesystem,
        addresses: Addresses | None = None,
        cache: Path | None = None,
        options: Sequence[str] = (),
    ) -> Iterator[Mounted]:
        """Make a mount of our server or of another one, with an empty cache unless one is given.

        `options` are for invoicefs.
        """
        home = self.new_folder()
        path = home / "mnt"
        path.mkdir()
        (home / "cache").mkdir()
        place = Place(
            path,
            home,
            cache or home / "cache",
            self.local_files,
            addresses or self.server.addresses,
            filesystem.checkout,
            options,
        )
        with mounted(filesystem, place) as mount:
            yield mount

    def kept_folder(self, key: str) -> Path:
        """Return a folder that remains for the later rounds, empty at first."""
        if key not in self._kept:
            self._kept[key] = self.new_folder()
        return self._kept[key]

    def new_folder(self) -> Path:
        """Make an empty temporary folder, which is deleted at the end of the benchmark.

        ext4 searches for an inode that was not deleted during the last minute or five (RECENTCY_MIN
        in fs/ext4/ialloc.c): after deletions, creating a file takes 0.9 ms instead of 0.04 ms
        (measured), and the next contestant would pay for it.
        """
        return Path(tempfile.mkdtemp(dir=self.folder))

    def timed(self, row: str, mount: Mounted, *argv: Argument) -> float:
        """Return the seconds that a command takes; fail if it fails."""
        with self._watched(row, mount):
            began_s = monotonic()
            run_successfully(*argv)
            return monotonic() - began_s

    def piped(self, pipeline: Pipeline, addresses: Addresses, *namespaces: str) -> float:
        """Return the seconds in which a pipeline archives namespaces; fail if a copy is wrong."""
        env = pipeline.environment(addresses, namespaces)
        copies = self.new_folder()
        with started(*pipeline.argv, cwd=copies, env=env) as program:
            program.line()  # if it ended, that is reported below
            began_s = monotonic()
            with suppress(BrokenPipeError):
                program.go_on()
            _check_success(program.end(_LIMIT_S))
            piped_s = monotonic() - began_s
        for namespace in namespaces:
            check_copy(copies / namespace, namespace)
        return piped_s

    def reading(self, row: str, mount: Mounted, way: str, folder: str) -> float:
        """Return the number that `tests.bench.reading` prints for a folder of a mount."""
        module = "tests.bench.reading"
        with self._watched(row, mount):
            argv = (sys.executable, "-m", module, way, mount.path / folder)
            return float(run_successfully(*argv, cwd=CHECKOUT).text)

    @contextmanager
    def _watched(self, row: str, mount: Mounted) -> Iterator[None]:
        if self.profiler is None or self.profiler.row != row:
            yield
            return
        with self.profiler.watching(mount.server):
            yield


def run_successfully(*argv: Argument, cwd: Path | None = None) -> Ended:
    """Run a command; fail with its error message if it fails or takes too long."""
    return _check_success(run(*argv, cwd=cwd, timeout_s=_LIMIT_S))


def _check_success(ended: Ended) -> Ended:
    lines = ended.err.strip().splitlines() or [""]
    words = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    name = Path(str(ended.argv[0])).name
    assert ended.code == 0, f"{name} exited with status {ended.code}: {words}"
    return ended


def make_local_files(folder: Path) -> None:
    """Write the files that are read or listed on the local disk."""
    for namespace in (ARCHIVE, LARGE, THOUSAND, TEN_THOUSAND):
        (folder / namespace).mkdir(parents=True)
        for name, content in files_of(namespace).items():
            (folder / namespace / name).write_bytes(content)


def check_copy(folder: Path, namespace: str) -> None:
    """Fail if a copy of a namespace is wrong."""
    files = files_of(namespace)
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".pdf"}
    wrong = sorted(name for name in {*found, *files} if found.get(name) != files.get(name))
    assert not wrong, f"{len(wrong)} of {len(files)} copies are wrong, such as {wrong[0]}"
