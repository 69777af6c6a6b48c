"""Signals for a program that waits for a download: a fatal one ends it at once, others do not."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Fault, Sandbox
from tests.mount.support.gate import Gate
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import LIMIT_S, Argument, eventually, started
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant

TENANT = tenant(invoice(0, 20_000))
pytestmark = pytest.mark.tenant(TENANT)
((NAME, CONTENT),) = contents(TENANT).items()

# Python itself repeats an open that fails with EINTR, other programs do not.
CATCH = """
import ctypes, os, resource, signal, sys
path, *caught = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for number in caught:
    signal.signal(int(number), lambda *_: None)
print("ready", flush=True)
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.open(os.fsencode(path), os.O_RDONLY)
assert fd >= 0, os.strerror(ctypes.get_errno())
sys.stdout.buffer.write(open(fd, "rb").read())
"""
CAUGHT = (signal.SIGWINCH, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM, signal.SIGTERM)


def catching(path: Path, *numbers: signal.Signals) -> tuple[Argument, ...]:
    """A program that catches these signals, and opens and reads a file."""
    return (sys.executable, "-I", "-c", CATCH, path, *(str(int(number)) for number in numbers))


@contextmanager
def delayed(sandbox: Sandbox, endpoint: Endpoint) -> Iterator[Gate]:
    gate = Gate()
    sandbox.inject(Fault(gate, endpoint))
    yield gate
    gate.open()


@pytest.fixture(params=[Endpoint.PDF, Endpoint.INVOICES], ids=["download", "listing"])
def gate(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[Gate]:
    """Delay the response that a program waits for until the test opens the gate."""
    with delayed(sandbox, request.param) as gate:
        yield gate


@pytest.fixture
def download(sandbox: Sandbox) -> Iterator[Gate]:
    """Delay the download that a program waits for until the test opens the gate."""
    with delayed(sandbox, Endpoint.PDF) as gate:
        yield gate


@pytest.mark.promise(
    "Ctrl-C and `kill` end a program that waits for the API at once, unless it handles the signal."
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_reader_ends_at_once_and_the_download_serves_the_next(
    sandbox: Sandbox, mounts: Mounts, gate: Gate, number: signal.Signals
) -> None:
    mount = mounts.mount()
    path = mount / NAMESPACE / NAME
    with started("cat", path) as reader:
        assert gate.arrived.wait(LIMIT_S)
        reader.process.send_signal(number)
        assert reader.end().code == -number
    assert not gate.is_over
    with started("cat", path) as other:
        gate.open()
        assert other.end().good().out == CONTENT
    requests = [call.endpoint for call in sandbox.calls]
    assert requests.count(Endpoint.PDF) == requests.count(Endpoint.INVOICES) == 1
    assert mount.warnings == []


def kill_another_reader(path: Path) -> None:
    """Return when the mount has noticed a killed reader, and so every earlier signal, too."""
    with started("cat", path) as other:
        eventually(lambda: waits_for_mount(other.process.pid))
        other.process.kill()
        assert other.end().code == -signal.SIGKILL


def waits_for_mount(pid: int) -> bool:
    return Path(f"/proc/{pid}/wchan").read_text(encoding="ascii") == "request_wait_answer"


def test_a_signal_that_a_program_catches_breaks_no_open(mounts: Mounts, download: Gate) -> None:
    path = mounts.mount() / NAMESPACE / NAME
    with started(*catching(path, *CAUGHT)) as reader:
        assert reader.line() == "ready"
        assert download.arrived.wait(LIMIT_S)
        for number in CAUGHT:
            reader.process.send_signal(number)
        kill_another_reader(path)
        download.open()
        assert reader.end().good().out == CONTENT


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT])
def test_a_program_that_caught_a_signal_can_still_be_killed(
    mounts: Mounts, download: Gate, number: signal.Signals
) -> None:
    """The kernel reports only the first signal, so the mount must look for others itself."""
    path = mounts.mount() / NAMESPACE / NAME
    with started(*catching(path, signal.SIGWINCH)) as reader:
        assert reader.line() == "ready"
        assert download.arrived.wait(LIMIT_S)
        reader.process.send_signal(signal.SIGWINCH)
        kill_another_reader(path)
        reader.process.send_signal(number)
        assert reader.end().code == -number
    assert not download.is_over


def test_a_stopped_program_ends_when_it_is_killed(mounts: Mounts, download: Gate) -> None:
    """Ctrl-Z has no effect before the open has ended, but a Ctrl-C after it has."""
    path = mounts.mount() / NAMESPACE / NAME
    with started("cat", path) as reader:
        assert download.arrived.wait(LIMIT_S)
        reader.process.send_signal(signal.SIGTSTP)
        kill_another_reader(path)
        reader.process.send_signal(signal.SIGINT)
        reader.process.send_signal(signal.SIGCONT)
        assert reader.end().code == -signal.SIGINT
    assert not download.is_over
