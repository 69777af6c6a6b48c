"""Resources of a process: threads, descriptors, SQLite connections, memory (proc(5))."""

import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.mount.support.programs import LIMIT_S

_DATABASE = "cache.db"  # each connection has a descriptor for it
_POLL_S = 0.1
_AT_REST_POLLS = 10


@dataclass(frozen=True)
class Gauges:
    """The resources of a process at one moment."""

    threads: int
    descriptors: int
    connections: int
    memory_bytes: int


def gauges(pid: int) -> Gauges:
    """Return the current resources of a process."""
    process = Path(f"/proc/{pid}")
    status = (process / "status").read_text(encoding="ascii")
    targets = _targets(process / "fd")
    return Gauges(
        threads=_number(status, "Threads"),
        descriptors=len(targets),
        connections=sum(os.path.basename(target) == _DATABASE for target in targets),
        memory_bytes=_number(status, "RssAnon") * 1024,
    )


def gauges_at_rest(pid: int) -> Gauges:
    """Return the resources of a process once it is idle: when only its memory changes."""
    never = threading.Event()
    last, unchanged = gauges(pid), 0
    for _ in range(int(LIMIT_S / _POLL_S)):
        never.wait(_POLL_S)
        now = gauges(pid)
        is_same = now == replace(last, memory_bytes=now.memory_bytes)
        last, unchanged = now, unchanged + 1 if is_same else 0
        if unchanged == _AT_REST_POLLS:
            break
    return last


def _number(status: str, name: str) -> int:
    match = re.search(rf"^{name}:\s*(\d+)", status, re.MULTILINE)
    assert match, f"{name} is not in {status}"
    return int(match[1])


def _targets(folder: Path) -> list[str]:
    targets = []
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # it has just been closed
            targets.append(os.readlink(folder / name))
    return targets
