"""Searches everything that the product writes or shows for planted secrets."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.mount.support.mounts import Mount, processes_of


@dataclass(frozen=True)
class Trace:
    """Something that was written or shown, with its source."""

    where: str
    content: bytes


def forms_of(secret: bytes) -> Iterator[bytes]:
    """Yield a secret as it is, and in the encodings in which it could be written."""
    yield secret
    yield quote(secret, safe="").encode()
    for offset in range(3):  # base64 encodes three bytes in four characters
        yield base64.b64encode(secret[offset:])[:-4]
    yield repr(secret.decode())[1:-1].encode()


def check(traces: list[Trace], *secrets: bytes) -> None:
    found = {
        f"{form!r} in {trace.where}"
        for trace in traces
        for secret in secrets
        for form in forms_of(secret)
        if form in trace.content
    }
    assert not found, found


def traces_of_processes(mount: Mount) -> list[Trace]:
    """Return the arguments and the environments of all processes of a mount."""
    pids = processes_of(mount.path)
    assert pids
    return [
        Trace(f"{name} of process {pid}", Path(f"/proc/{pid}/{name}").read_bytes())
        for pid in pids
        for name in ("cmdline", "environ")
    ]


def traces_of_files(folder: Path) -> list[Trace]:
    """Return the names and contents of all files below a folder."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [Trace(str(path), str(path).encode() + path.read_bytes()) for path in found]
