"""Real servers on the loopback interface that serve a mount, configured by the examples."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from invoicefs.sandbox.listener import reserve_port
from tests.mount.conftest import (  # noqa: F401 - fixtures, which pytest finds by their names
    _machine,
    _nothing_left_mounted,
    folder_for_others,
    sandbox,
)
from tests.mount.support.mounts import NEEDS_ROOT, Mounts
from tests.serving.folder import ServedFolder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests for other users than root: servers change users, and mounts need it."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(NEEDS_ROOT)


@pytest.fixture
def served(sandbox: Sandbox) -> Iterator[ServedFolder]:  # noqa: F811 - it uses the fixture
    """A folder for a mount and a server that serves it."""
    with folder_for_others() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with closing(Mounts(sandbox, folder)) as mounts:
            yield ServedFolder(mounts)


@pytest.fixture
def port() -> Iterator[int]:
    """A port for a server, which no other program gets meanwhile."""
    with reserve_port() as reserved:
        yield reserved.getsockname()[1]
