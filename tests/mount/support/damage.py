"""Damage to the files of a cache by power loss, a bad disk or another program."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

_PAGE_BYTES = 4096

Damage = Callable[[Sequence[Path]], None]
Choice = Callable[[Path], list[Path]]


# Which files are damaged.


def everything(store: Path) -> list[Path]:
    """All files; those that are created or removed meanwhile may be missing."""
    return sorted(Path(folder, name) for folder, _, names in os.walk(store) for name in names)


def value_files(store: Path) -> list[Path]:
    return [path for path in everything(store) if path.suffix == ".val"]


def databases(store: Path) -> list[Path]:
    return [path for path in everything(store) if path.name == "cache.db"]


def value_files_and_databases(store: Path) -> list[Path]:
    return [*value_files(store), *databases(store)]


def journals(store: Path) -> list[Path]:
    return [path for path in everything(store) if path.name.startswith("cache.db-")]


# How they are damaged.


def halved(files: Sequence[Path]) -> None:
    for path in files:
        os.truncate(path, path.stat().st_size // 2)


def emptied(files: Sequence[Path]) -> None:
    for path in files:
        os.truncate(path, 0)


def without_last_page(files: Sequence[Path]) -> None:
    for path in files:
        last_byte = max(0, path.stat().st_size - 1)
        os.truncate(path, last_byte // _PAGE_BYTES * _PAGE_BYTES)


def zeroed(files: Sequence[Path]) -> None:
    for path in files:
        _overwrite(path, bytes(path.stat().st_size))


def with_a_bit_flipped(files: Sequence[Path]) -> None:
    for path in files:
        middle = path.stat().st_size // 2
        _flip_bits(path, [8 * middle])


def with_many_bits_flipped(files: Sequence[Path]) -> None:
    random = Random(1)  # noqa: S311 # the same on every run
    for path in files:
        bits = 8 * path.stat().st_size
        _flip_bits(path, [random.randrange(bits) for _ in range(bits // 4000)])


def rotated(files: Sequence[Path]) -> None:
    """Give each file the content of the next one."""
    contents = [path.read_bytes() for path in files]
    for path, content in zip(files, [*contents[1:], *contents[:1]], strict=True):
        path.write_bytes(content)


def rotated_within_kind(files: Sequence[Path]) -> None:
    """Rotate databases and journals separately: each journal is that of another database."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        groups[path.suffix].append(path)
    for group in groups.values():
        rotated(group)


def missing(files: Sequence[Path]) -> None:
    for path in files:
        path.unlink()


def every_second_missing(files: Sequence[Path]) -> None:
    missing(files[::2])


DAMAGES: tuple[Damage, ...] = (
    halved,
    emptied,
    without_last_page,
    zeroed,
    with_a_bit_flipped,
    with_many_bits_flipped,
    rotated,
    rotated_within_kind,
    every_second_missing,
    missing,
)


def put_junk_next_to(files: Sequence[Path]) -> None:
    """Create junk files and folders in the folders of these files and in their parents."""
    for folder in {parent for path in files for parent in list(path.parents)[:2]}:
        for name in ("junk", "junk.val", "cache.db-journal"):
            (folder / name).write_bytes(b"junk" * 5000)
        (folder / "nothing.val").touch()
        (folder / "lost+found" / "more").mkdir(parents=True)
        (folder / "lost+found" / "#12345").write_bytes(b"%PDF-1.4\n")


def corrupt(text: bytes, files: Sequence[Path]) -> None:
    """Flip a bit in each occurrence of this text; fail if there is none."""
    assert any(text in path.read_bytes() for path in files)
    for path in files:
        _overwrite(path, path.read_bytes().replace(text, bytes([text[0] ^ 1]) + text[1:]))


def _overwrite(path: Path, content: bytes) -> None:
    """Overwrite a file in place: a file in use is never truncated in between."""
    with path.open("r+b") as file:
        file.write(content)


def _flip_bits(path: Path, bits: Iterable[int]) -> None:
    content = bytearray(path.read_bytes())
    for bit in bits:
        if content:
            content[bit // 8] ^= 1 << bit % 8
    _overwrite(path, bytes(content))


def damage(apply: Damage, files: Sequence[Path]) -> None:
    """Damage these files; fail if nothing changes."""
    before = _contents(files)
    apply(files)
    assert _contents(files) != before


def _contents(files: Sequence[Path]) -> list[bytes | None]:
    return [path.read_bytes() if path.exists() else None for path in files]
