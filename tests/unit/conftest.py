"""What several files of this tier stand on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from invoicefs.store import Store
from tests.fetcher_stage import SetStage, Stage
from tests.store_folder import OpenStore, opening


@pytest.fixture
def set_stage() -> Iterator[SetStage]:
    """Set the one stage of a test."""
    with contextlib.ExitStack() as stages:
        yield lambda **limits: stages.enter_context(Stage(**limits))


@pytest.fixture
def stage(set_stage: SetStage) -> Stage:
    return set_stage()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def open_(folder: Path) -> Iterator[OpenStore]:
    with opening(folder) as open_:
        yield open_


@pytest.fixture
def store(open_: OpenStore) -> Store:
    return open_()
