"""Causes one failure of the API on a real mount, and returns what programs see.

The tenant has one folder for each purpose: `kept` is archived before the failure, `known` is
listed before it, `never` and `once` are not, and invoices in `spare` can be opened throughout.

The mount makes one request at a time, so a worker that is blocked by a failing request is noticed
at once; and it refreshes a listing on every use.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from enum import Enum
from hashlib import sha256
from pathlib import Path

from invoicefs.sandbox import (
    Endpoint,
    Fault,
    SampleInvoice,
    SampleNamespace,
    SampleTenant,
    Sandbox,
    faults,
)
from tests.mount.support.failures import Failure, Target, World
from tests.mount.support.files import in_folder
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import LIMIT_S, eventually, python, run
from tests.mount.support.tenants import contents, file_name, invoice

RIGHT = "right"
REFUSED = "refused"
WITH_A_WARNING = "with a warning"


class Step(Enum):
    """An action that is tried during or after the failure."""

    MOUNT = "mounting a new tenant"
    NEW_ROOT = "the namespaces of a new tenant"
    ROOT = "the namespaces"
    NEW_LIST = "a listing that is not cached"
    LIST = "a cached listing"
    ARCHIVE = "the archive after rsync --delete"
    OPEN = "opening a new invoice"
    STAT = "stat of a new invoice"
    CACHED = "opening a cached invoice"
    OPEN_MEANWHILE = "opening another new invoice meanwhile"
    OPEN_WHILE_LISTS_FAIL = "opening new invoices while listings fail"
    ROOT_ONCE = "the namespaces, when one request fails"
    LIST_ONCE = "a new listing, when one request fails"
    OPEN_ONCE = "opening, when one request fails"
    AFTERWARDS = "everything, after the failure"
    STORE = "everything, after a remount without the API"


Outcomes = Mapping[Step, str]

_PARTS = ("kept", "known", "never", "once", "spare")
_INVOICES = tuple(invoice(number, 3000 + number) for number in range(6))
_TENANT = SampleTenant("acme", tuple(SampleNamespace(part, _INVOICES) for part in _PARTS))
_CONTENTS = contents(_TENANT, "known")
_BAD, _ONCE = _INVOICES[:2]
_MIB = 1024 * 1024
_COMMON_OPTIONS = ("--list-ttl", "0s", "--parallel", "1", "--max-pdf-size", "2MiB")

_TRY = """
import errno, hashlib, os, sys
try:
    print({expression})
except OSError as error:
    print(errno.errorcode[error.errno])
"""
_LIST = "*sorted(os.listdir(sys.argv[1]))"
_STAT = "os.stat(sys.argv[1]).st_size"
_OPEN = "hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest()"


def outcomes_of(failure: Failure, folder: Path) -> Outcomes:
    """Return the outcome of each step that applies: `RIGHT`, an errno, or words.

    `folder` must be empty.
    """
    with Sandbox(_TENANT) as sandbox:
        world = World(sandbox, folder)
        if failure.needs_tls:
            world.use_tls(is_trusted=True)
        found = _outcomes_of_new_tenant(failure, world, folder) if failure.affects_lists else {}
        return found | _outcomes_of_known_tenant(failure, world, folder)


def _outcomes_of_new_tenant(failure: Failure, world: World, folder: Path) -> dict[Step, str]:
    with closing(_mounts(world, folder / "new")) as mounts:
        path = mounts.new_path()
        with _failing(failure, world, Endpoint.NAMESPACES):
            ended = mounts.command("mount", *_options(failure), path)
            if ended.code == 1:
                return {Step.MOUNT: REFUSED if ended.err else "refused without a message"}
            found = {Step.MOUNT: WITH_A_WARNING if ended.err else "without a warning"}
            return found | {Step.NEW_ROOT: _listed(path, _PARTS)}


def _outcomes_of_known_tenant(failure: Failure, world: World, folder: Path) -> dict[Step, str]:
    with closing(_mounts(world, folder / "known")) as mounts:
        stage = _Stage(failure, world, mounts, folder)
        # State that outlives some steps by seconds must not affect the next ones: a cool-down after
        # many failures, and the 401 for a listing, which makes downloads fail, too.
        found = stage.with_single_failures()
        found |= stage.with_failing_downloads()
        if failure.affects_lists:
            found |= stage.with_failing_lists()
        return found | stage.afterwards()


class _Stage:
    """A mount without failures so far, and an archive that was made from it."""

    def __init__(self, failure: Failure, world: World, mounts: Mounts, folder: Path) -> None:
        self._failure = failure
        self._world = world
        self._mounts = mounts
        self._archive = folder / "archive"
        self._copies = folder / "copies"
        self._mount = mounts.mount(*_options(failure))
        self._new_invoices = iter(_INVOICES)
        for part in ("known", "spare"):
            run("ls", self._mount / part).good()
        for part in ("kept", "never"):
            (self._archive / part).mkdir(parents=True)
        self._archived("kept")
        for name, content in _CONTENTS.items():
            (self._archive / "never" / name).write_bytes(content)

    def with_single_failures(self) -> dict[Step, str]:
        once = self._mount / "known" / file_name(_ONCE)
        opening = self._during_one_request(lambda: _opened(once, _ONCE), Endpoint.PDF, "known")
        if not self._failure.affects_lists:
            return {Step.OPEN_ONCE: opening}
        return {
            Step.OPEN_ONCE: opening,
            Step.LIST_ONCE: self._during_one_request(
                lambda: self._listed("once"), Endpoint.INVOICES, "once"
            ),
            Step.ROOT_ONCE: self._during_one_request(
                lambda: _listed(self._mount.path, _PARTS), Endpoint.NAMESPACES
            ),
        }

    def with_failing_downloads(self) -> dict[Step, str]:
        bad = self._mount / "known" / file_name(_BAD)
        with self._failing(Endpoint.PDF, "known", name=_BAD.name):
            found = {
                Step.OPEN: _opened(bad, _BAD),
                Step.STAT: _tried(_STAT, bad, str(2 * _MIB)),
                Step.CACHED: _opened(self._mount / "kept" / file_name(_BAD), _BAD),
            }
            if not self._failure.affects_all_requests:
                found[Step.OPEN_MEANWHILE] = self._opened_meanwhile()
            return found

    def with_failing_lists(self) -> dict[Step, str]:
        self._wait_for_refresh()
        with self._failing(Endpoint.NAMESPACES):
            root = _listed(self._mount.path, _PARTS)
            archives = [self._archived_from_the_root()]
        with self._failing(Endpoint.INVOICES, "never", "known", "kept"):
            new, old = (self._listed(part) for part in ("never", "known"))
            archives += [self._archived(part) for part in ("never", "kept")]
            found = {Step.ROOT: root, Step.NEW_LIST: new, Step.LIST: old}
            if not self._failure.affects_all_requests:
                found[Step.OPEN_WHILE_LISTS_FAIL] = self._opened_meanwhile()
        return {**found, Step.ARCHIVE: _worst(archives)}

    def afterwards(self) -> dict[Step, str]:
        """Wait some seconds until recent failures have expired, and read everything."""
        invoices = [self._mount / "known" / file_name(invoice) for invoice in (_BAD, _ONCE)]
        folders = [self._mount.path, *(self._mount / part for part in _PARTS)]
        eventually(lambda: run("ls", *folders).code == 0)
        eventually(lambda: run("cat", *invoices).code == 0)
        now = self._copied()
        self._mounts.umount(self._mount)
        self._world.sandbox.inject(Fault(faults.reset()))
        options = (*_COMMON_OPTIONS, "--max-wait", "0s")
        self._mount = self._mounts.mount(*options, words="cannot be used now")
        return {Step.AFTERWARDS: now, Step.STORE: self._copied()}

    @contextmanager
    def _failing(
        self, endpoint: Endpoint, *namespaces: str, name: str | None = None
    ) -> Iterator[None]:
        with _failing(self._failure, self._world, endpoint, *namespaces, name=name):
            yield

    def _during_one_request(
        self, use: Callable[[], str], endpoint: Endpoint, namespace: str | None = None
    ) -> str:
        return self._failure.during_one_request(self._world, use, Target(endpoint, namespace))

    def _wait_for_refresh(self) -> None:
        """Wait until the list of namespaces is requested again."""
        before = self._world.sandbox.count(Endpoint.NAMESPACES)

        def is_requested() -> bool:
            run("ls", self._mount.path)
            return self._world.sandbox.count(Endpoint.NAMESPACES) > before

        eventually(is_requested)

    def _listed(self, part: str) -> str:
        return _listed(self._mount / part, _CONTENTS)

    def _opened_meanwhile(self) -> str:
        """The outcome of opening the next new invoice in an unaffected folder."""
        new = next(self._new_invoices)
        return _opened(self._mount / "spare" / file_name(new), new)

    def _archived(self, part: str) -> str:
        run("rsync", "-a", "--delete", f"{self._mount / part}/", self._archive / part)
        return _classified(in_folder(self._archive / part), _CONTENTS)

    def _archived_from_the_root(self) -> str:
        others = [f"--exclude=/{part}" for part in _PARTS if part != "kept"]
        run("rsync", "-a", "--delete", *others, f"{self._mount.path}/", self._archive)
        return _classified(in_folder(self._archive / "kept"), _CONTENTS)

    def _copied(self) -> str:
        copy = self._copies / self._mount.path.name
        copy.parent.mkdir(exist_ok=True)
        # After a rate limit, requests are slower for a while.
        run("cp", "-r", self._mount.path, copy, timeout_s=3 * LIMIT_S).good()
        return _classified(
            {part.name: in_folder(part) for part in copy.iterdir()},
            dict.fromkeys(_PARTS, _CONTENTS),
        )


@contextmanager
def _failing(
    failure: Failure,
    world: World,
    endpoint: Endpoint,
    *namespaces: str,
    name: str | None = None,
) -> Iterator[None]:
    """Make requests of one kind fail, in some namespaces or in all."""
    for namespace in namespaces or (None,):
        failure.begin(world, Target(endpoint, namespace, name))
    try:
        yield
    finally:
        failure.end(world)


def _mounts(world: World, folder: Path) -> Mounts:
    folder.mkdir()
    return Mounts(world.sandbox, folder, variables=world.variables)


def _options(failure: Failure) -> tuple[str, ...]:
    return (*_COMMON_OPTIONS, "--timeout", f"{failure.timeout_s}s", "--max-wait", "2s")


def _tried(expression: str, path: Path, expected: str) -> str:
    """Return `RIGHT` if an expression about a path has the expected value, else what it printed."""
    printed = python(_TRY.format(expression=expression), path).good().text.rstrip("\n")
    return RIGHT if printed == expected else printed


def _listed(path: Path, names: Iterable[str]) -> str:
    return _tried(_LIST, path, " ".join(sorted(names)))


def _opened(path: Path, invoice: SampleInvoice) -> str:
    return _tried(_OPEN, path, sha256(invoice.content() or b"").hexdigest())


def _classified(found: object, expected: object) -> str:
    return RIGHT if found == expected else "wrong"


def _worst(outcomes: Iterable[str]) -> str:
    return next((outcome for outcome in outcomes if outcome != RIGHT), RIGHT)
