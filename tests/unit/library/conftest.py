"""Fixtures of the library: a clock that stands still, and a store in memory."""

import pytest

from tests.support.memory_store import MemoryStore
from tests.support.running_library import CrowdClock


@pytest.fixture
def clock() -> CrowdClock:
    return CrowdClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()
