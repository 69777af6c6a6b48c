"""Signals for a program that waits for a download: a fatal one ends it at once, others do not."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from invoicefs.sandbox import Endpoint, Fault, Sandbox
from tests.mount.support.gate import Gate
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import LIMIT_S, run, started
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant

TENANT = tenant(invoice(0, 20_000))
pytestmark = pytest.mark.tenant(TENANT)
((NAME, CONTENT),) = contents(TENANT).items()

CATCH_ALL = """
import signal, sys
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, lambda *_: None)
print("ready", flush=True)
sys.stdout.buffer.write(open(sys.argv[1], "rb").read())
"""
CAUGHT = (signal.SIGWINCH, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM, signal.SIGTERM)


@pytest.fixture(params=[Endpoint.PDF, Endpoint.INVOICES], ids=["download", "listing"])
def gate(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[Gate]:
    """Delay the response that a program waits for until the test opens the gate."""
    gate = Gate()
    sandbox.inject(Fault(gate, request.param))
    yield gate
    gate.open()


@pytest.mark.promise("Ctrl-C and `kill` end a program that waits for the API at once.")
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
    with started("cat", path) as other:
        gate.open()
        assert other.end().good().out == CONTENT
    requests = [call.endpoint for call in sandbox.calls]
    assert requests.count(Endpoint.PDF) == requests.count(Endpoint.INVOICES) == 1
    assert mount.warnings == []


def test_a_signal_that_a_program_catches_breaks_no_open(mounts: Mounts, gate: Gate) -> None:
    path = mounts.mount() / NAMESPACE / NAME
    with started(sys.executable, "-I", "-c", CATCH_ALL, path) as reader:
        assert reader.line() == "ready"
        assert gate.arrived.wait(LIMIT_S)
        for number in CAUGHT:
            reader.process.send_signal(number)
        run("stat", path.parent.parent).good()  # the mount has seen the interrupt meanwhile
        gate.open()
        assert reader.end().good().out == CONTENT


def test_a_program_that_caught_a_signal_can_still_be_killed(mounts: Mounts, gate: Gate) -> None:
    """The kernel reports only the first signal, so the mount must look for others itself."""
    path = mounts.mount() / NAMESPACE / NAME
    with started(sys.executable, "-I", "-c", CATCH_ALL, path) as reader:
        assert reader.line() == "ready"
        assert gate.arrived.wait(LIMIT_S)
        reader.process.send_signal(signal.SIGWINCH)
        run("stat", path.parent.parent).good()
        os.kill(reader.process.pid, signal.SIGKILL)
        assert reader.end().code == -signal.SIGKILL
