"""Fixtures for tests of several tiers."""

import signal
from collections.abc import Generator, Iterator
from contextlib import suppress
from importlib import import_module
from pkgutil import walk_packages
from shutil import which

import pytest

import invoicefs
from invoicefs.sandbox.listener import reserve_port
from tests.mount.support.programs import missing
from tests.support.certificates import Authority, Identity


def pytest_configure() -> None:
    """Let the programs that tests start react to SIGINT and SIGQUIT.

    They would ignore both if a shell has started the tests in the background with ``&``.
    """
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_sessionstart() -> None:
    """Import every module, because Hypothesis draws constants from those that are imported.

    Otherwise its examples would depend on the tests that ran before, even with a fixed seed.
    """
    for module in walk_packages(invoicefs.__path__, "invoicefs."):
        if not module.name.endswith(".__main__"):
            with suppress(ImportError, OSError, AttributeError):  # such as without libfuse 2
                import_module(module.name)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A local port that refuses connections for the duration of the test."""
    with reserve_port() as closed:
        yield closed.getsockname()[1]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that issues server and client certificates."""
    if which("openssl") is None:
        missing("the openssl command is missing: it makes the certificates")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def client(authority: Authority) -> Identity:
    """A valid client certificate for a subject named ``somebody``."""
    return authority.issue("somebody")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in captured logs: pytest-xdist cannot send them."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
