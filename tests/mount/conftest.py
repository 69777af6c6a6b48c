"""Real mounts of an embedded API server, by the real command.

The tests may run in several worker processes at once (``pytest -n 3``), which share a folder, the
machine's mounts and its FUSE device: a worker leaves alone what another may be using.
"""

import ctypes.util
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import CHECKOUT, FUSERMOUNT, Mount, Mounts, sweep
from tests.mount.support.programs import missing, run

_FUSE_DEVICE = Path("/dev/fuse")
_PROGRAMS = (
    *("borg", "cpio", "file", "getfattr", "gio", "mksquashfs", "mutool", "pdftotext", "qpdf"),
    *("rclone", "restic", "rsync", "setpriv", "strace", "tar", "zip"),
)
_IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
_ORDINARY_FOLDER = "invoicefs-test-"  # of an ordinary user, in the folder for temporary files
_NOBODY = 65_534
_AS_NOBODY = (
    "setpriv",
    f"--reuid={_NOBODY}",
    f"--regid={_NOBODY}",
    "--clear-groups",
    "--",
)
_AS_NOBODY_WHO_MAY_READ_THE_PROGRAM = (
    *_AS_NOBODY[:-1],
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
    "--",
)


def pytest_report_collectionfinish(items: Sequence[pytest.Item]) -> list[str]:
    """Say what this machine has for these tests."""
    if not any(item.path.parent == Path(__file__).parent for item in items):
        return []
    has = {
        str(_FUSE_DEVICE): os.access(_FUSE_DEVICE, os.R_OK | os.W_OK) and "usable",
        "libfuse 2": ctypes.util.find_library("fuse"),
        "fusermount": shutil.which(FUSERMOUNT),
        **{program: shutil.which(program) for program in _PROGRAMS},
        "user": "root" if os.geteuid() == 0 else "not root",
    }
    return ["mounts: " + ", ".join(f"{name} {fact or 'MISSING'}" for name, fact in has.items())]


@pytest.fixture(scope="session", autouse=True)
def _machine() -> None:
    """Skip, or in CI fail, all of these tests where nothing can be mounted."""
    if not os.access(_FUSE_DEVICE, os.R_OK | os.W_OK):
        missing(f"{_FUSE_DEVICE} is missing or not usable")
    if ctypes.util.find_library("fuse") is None:
        missing("libfuse 2 is missing")
    if shutil.which(FUSERMOUNT) is None:
        missing("fusermount is missing")


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_mounted(
    _machine: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Unmount what an earlier run left dead, and whatever is mounted when this one ends."""
    mine = tmp_path_factory.getbasetemp()
    this_run = _folder_of_run(tmp_path_factory)
    ordinary = Path(tempfile.gettempdir()).glob(f"{_ORDINARY_FOLDER}*")
    for folder in (*this_run.parent.iterdir(), *ordinary):
        if folder != this_run and not folder.name.startswith(_ORDINARY_FOLDER + _RUN):
            sweep(folder, only_dead=True)
    yield
    sweep(mine, only_dead=False)


def _folder_of_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for temporary files that all workers of this run have in common."""
    mine = tmp_path_factory.getbasetemp()
    return mine.parent if _IS_WORKER else mine


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def mounts(sandbox: Sandbox, tmp_path: Path) -> Iterator[Mounts]:
    with closing(Mounts(sandbox, tmp_path)) as mounts:
        yield mounts


@pytest.fixture
def mount(mounts: Mounts) -> Mount:
    """The sample tenant, mounted with the default options."""
    return mounts.mount()


@pytest.fixture(scope="session")
def _fuse_device_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let everybody use the FUSE device, as udev does; some containers have it for root only.

    Each worker opens it, the first one writes down how it was, and the last one puts it back.
    """
    if os.geteuid() != 0:
        yield
        return
    folder = _folder_of_run(tmp_path_factory)
    was = folder / "mode-of-fuse-device"
    mode = stat.S_IMODE(_FUSE_DEVICE.stat().st_mode)
    with open(folder / "users-of-fuse-device", "w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with suppress(FileExistsError), open(was, "x") as file:
            file.write(str(mode))
        _FUSE_DEVICE.chmod(0o666)
        yield
        with suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _FUSE_DEVICE.chmod(int(was.read_text()))


@pytest.fixture
def unprivileged_mounts(sandbox: Sandbox, _fuse_device_for_all: None) -> Iterator[Mounts]:
    """Mounts as an ordinary user: as ``nobody`` where the tests are run by root.

    Their folder is not in `tmp_path`, which nobody else may enter.
    """
    with tempfile.TemporaryDirectory(prefix=f"{_ORDINARY_FOLDER}{_RUN}-") as name:
        folder = Path(name)
        prefix, command_prefix = _prefixes_of_ordinary_user()
        if prefix:
            os.chown(folder, _NOBODY, _NOBODY)
        with closing(Mounts(sandbox, folder, prefix, command_prefix)) as mounts:
            yield mounts


@pytest.fixture(params=["as who runs the tests", "as an ordinary user"])
def anyones_mounts(request: pytest.FixtureRequest) -> Mounts:
    is_mine = request.param == "as who runs the tests"
    fixture = "mounts" if is_mine else "unprivileged_mounts"
    made = request.getfixturevalue(fixture)
    assert isinstance(made, Mounts)
    return made


def _prefixes_of_ordinary_user() -> tuple[Sequence[str], Sequence[str]]:
    """What makes an ordinary user run a program, and what our own.

    Where the interpreter or the checkout lies in root's home, that user is lent the right to read
    it, for our own program only. It has no part in mounting: fusermount and the kernel go by the
    user id.
    """
    if os.geteuid() != 0:
        return (), ()
    # It starts an interpreter itself: setpriv can start one that the user cannot.
    source = "import invoicefs, subprocess, sys; subprocess.run([sys.executable, '-V'], check=True)"
    program = (sys.executable, "-c", source)
    for prefix in (_AS_NOBODY, _AS_NOBODY_WHO_MAY_READ_THE_PROGRAM):
        if run(*prefix, *program, env={"PYTHONPATH": str(CHECKOUT)}, cwd=Path("/")).code == 0:
            break
    else:
        missing("an ordinary user cannot run the interpreter")
    return _AS_NOBODY, prefix
