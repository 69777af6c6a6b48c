"""What tests of several tiers stand on."""

from collections.abc import Iterator
from shutil import which

import pytest

from invoicefs.sandbox.listener import reserve_port
from tests.mount.support.programs import missing
from tests.support.certificates import Authority, Identity


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that refuses connections for as long as the test lasts."""
    with reserve_port() as closed:
        yield closed.getsockname()[1]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Issues certificates, of servers and of clients."""
    if which("openssl") is None:
        missing("the openssl command is missing: it makes the certificates")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def client(authority: Authority) -> Identity:
    """A client certificate that is valid, of one named ``somebody``."""
    return authority.issue("somebody")
