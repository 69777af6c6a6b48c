"""Freed memory is returned to the system. Every test needs a process of its own."""

import subprocess
import sys

import pytest

MIB = 1024 * 1024
GROWTH = """
import resource
from pathlib import Path
from invoicefs.malloc import return_large_blocks

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

{prepare}
before_bytes = resident_bytes()
for mib in (32, 24, 16):
    block = bytearray(mib * 1024 * 1024)
    del block
print(resident_bytes() - before_bytes)
"""


@pytest.mark.parametrize("is_prepared", [True, False])
def test_large_blocks_are_returned_to_the_system(is_prepared: bool) -> None:
    """Without `return_large_blocks` they are not, which shows that the test can fail."""
    source = GROWTH.format(prepare="return_large_blocks()" if is_prepared else "")
    ended = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, check=True, timeout=60
    )
    assert (int(ended.stdout) < 4 * MIB) is is_prepared
