"""Programs with windows, on a virtual screen, which access real mounts."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.desktop.screen import Screen
from tests.mount.conftest import (  # noqa: F401 - fixtures, which pytest finds by their names
    _machine,
    _nothing_left_mounted,
    mounts,
    sandbox,
)
from tests.mount.support.mounts import Mounts


@pytest.fixture
def screen(mounts: Mounts, tmp_path: Path) -> Iterator[Screen]:  # noqa: F811 - it uses the fixture
    """The desktop of the user of the mounts; its programs end before the mounts do."""
    with closing(Screen(tmp_path / "home", mounts.folder / "runtime")) as screen:
        yield screen
