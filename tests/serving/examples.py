"""The examples of servers in the package, with other paths, ports and accounts."""

from pathlib import Path

from tests.mount.support.mounts import CHECKOUT

EXAMPLES = CHECKOUT / "invoicefs/share/doc/invoicefs/examples"


def install(name: str, folder: Path, changes: dict[str, str]) -> Path:
    """Copy an example to a folder, with these changes, each of which must be possible."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
