"""What a measured thing stands on: the server, folders that go away, commands with a time limit."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic

from tests.bench.contestants import Filesystem, Place
from tests.bench.mounting import Mounted, mounted
from tests.bench.profiling import Profiler
from tests.bench.running_server import RunningServer
from tests.bench.server import Addresses
from tests.bench.tenant import ARCHIVE, COUNTS, CROWDED, THOUSAND, archived_files
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import Argument, Ended, run

_LIMIT_S = 150.0  # for one command; the slowest contestant takes a quarter of it


@dataclass(frozen=True)
class Stage:
    """Everything that is shared by the contestants.

    `local_files` is a folder with the files that the server has, for those who need no server.
    """

    server: RunningServer
    folder: Path
    local_files: Path
    profiler: Profiler | None = None

    @contextmanager
    def mounted(
        self, filesystem: Filesystem, addresses: Addresses | None = None
    ) -> Iterator[Mounted]:
        """A mount that has seen nothing before, of our server or of another one."""
        with self.new_folder() as home:
            path = home / "mnt"
            path.mkdir()
            (home / "cache").mkdir()
            place = Place(path, home, self.local_files, addresses or self.server.addresses)
            with mounted(filesystem, place) as mount:
                yield mount

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """An empty folder that goes away."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)

    def timed(
        self,
        row: str,
        mount: Mounted | None,
        *argv: Argument,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> float:
        """The seconds that a command takes, which has to end well."""
        with self._watched(row, mount):
            began_s = monotonic()
            _ended_well(*argv, cwd=cwd, env=env)
            return monotonic() - began_s

    def reading(self, row: str, mount: Mounted, way: str, folder: str) -> float:
        """What the program `tests.bench.reading` says of a folder of a mount."""
        module = "tests.bench.reading"
        with self._watched(row, mount):
            argv = (sys.executable, "-m", module, way, mount.path / folder)
            return float(_ended_well(*argv, cwd=CHECKOUT).text)

    @contextmanager
    def _watched(self, row: str, mount: Mounted | None) -> Iterator[None]:
        if self.profiler is None or mount is None or self.profiler.row != row:
            yield
            return
        with self.profiler.watching(mount.server):
            yield


def _ended_well(
    *argv: Argument, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Ended:
    ended = run(*argv, cwd=cwd, env=env, timeout_s=_LIMIT_S)
    lines = ended.err.strip().splitlines() or [""]
    words = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    assert ended.code == 0, f"{Path(str(argv[0])).name} ends with {ended.code}: {words}"
    return ended


@cache
def _archived_files() -> Mapping[str, bytes]:
    return archived_files()


def make_local_files(folder: Path) -> None:
    """Write the files that are read or looked at on the local disk."""
    for name in (ARCHIVE, CROWDED, THOUSAND):
        (folder / name).mkdir(parents=True)
    for name, content in _archived_files().items():
        (folder / ARCHIVE / name).write_bytes(content)
    for number in range(COUNTS[THOUSAND]):
        (folder / THOUSAND / f"invoice-{number:06}.pdf").write_bytes(b"")


def check_archive(folder: Path) -> None:
    """Fail where a copy of the archive is not what it has to be."""
    files = _archived_files()
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".pdf"}
    wrong = sorted(name for name in {*found, *files} if found.get(name) != files.get(name))
    assert not wrong, f"{len(wrong)} of {len(files)} copies are wrong, like {wrong[0]}"
