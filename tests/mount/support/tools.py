"""The tools that copy files, each with a function that returns its copies."""

import gzip
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.mount.support.programs import Ended, run
from tests.mount.support.tool_stage import FILES, FOLDER, PAGES, SERVICE, Copies, Place

FILES_AND_FOLDER = (*FILES, FOLDER)


def printed(ended: Ended, place: Place) -> Copies:
    return {place.name: ended.out}


def printed_compressed(ended: Ended, place: Place) -> Copies:
    return {place.name: gzip.decompress(ended.out)}


def in_target(_: Ended, place: Place) -> Copies:
    return {path.name: path.read_bytes() for path in place.target.iterdir()}


def in_pieces(_: Ended, place: Place) -> Copies:
    return {place.name: b"".join(path.read_bytes() for path in sorted(place.target.iterdir()))}


def in_zip(_: Ended, place: Place) -> Copies:
    with zipfile.ZipFile(place.archive) as archive:
        files = [file for file in archive.infolist() if not file.is_dir()]
        return {file.filename: archive.read(file) for file in files}


def in_tar(ended: Ended, place: Place) -> Copies:
    """Return the unpacked files; none if tar reports an error in the archive."""
    unpacked = run("tar", "-x", "-f", place.archive, "-C", place.target)
    return {} if unpacked.code else in_target(ended, place)


Copied = Callable[[Ended, Place], Copies]


@dataclass(frozen=True)
class Tool:
    """A tool that copies. If it trusts an early ``stat``, it may fail with these `words`."""

    name: str
    argv: Sequence[str]
    copied: Copied
    subjects: Sequence[str] = FILES
    words: str = ""


def _commands(
    copied: Copied, *lines: str, subjects: Sequence[str] = FILES, words: str = ""
) -> Sequence[Tool]:
    return [Tool(line, line.split(), copied, subjects, words) for line in lines]


def _programs(
    copied: Copied,
    beginning: str,
    programs: Mapping[str, str],
    *,
    subjects: Sequence[str] = FILES,
    words: str = "",
) -> Sequence[Tool]:
    """Return Python programs with the same first lines, by their names."""
    start, paths = (sys.executable, "-I", "-c"), ("SOURCE", "TARGET/NAME", "ARCHIVE")
    return [
        Tool(name, (*start, beginning + program, *paths), copied, subjects, words)
        for name, program in programs.items()
    ]


_BY_PATH = """
import os, pathlib, shutil, sys, tarfile, zipfile
source, copy, archive = sys.argv[1:]
name = os.path.basename(copy)
"""
_BY_HANDLE = """
import errno, mmap, os, random, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
write = sys.stdout.buffer.write
"""
_BETWEEN_HANDLES = f"""{_BY_HANDLE}
out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
"""

_READING = {
    "mmap shared": "write(mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ))",
    "mmap private": "write(mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE))",
    "pread in random order": """
offsets = list(range(0, os.fstat(fd).st_size, 7001))
random.Random(1).shuffle(offsets)
parts = {offset: os.pread(fd, 7001, offset) for offset in offsets}
write(b"".join(parts[offset] for offset in sorted(parts)))
""",
    "readv": """
buffers = [bytearray(1), bytearray(4095), bytearray(70_000)]
while size := os.readv(fd, buffers):
    write(b"".join(buffers)[:size])
""",
    "preadv": """
buffers, offset = [bytearray(100_000), bytearray(3)], 0
while size := os.preadv(fd, buffers, offset):
    write(b"".join(buffers)[:size])
    offset += size
""",
    "splice": "while os.splice(fd, 1, 1 << 16): pass",
}
_COPYING_IN_THE_KERNEL = {
    "sendfile": "while os.sendfile(out, fd, None, 1 << 30): pass",
    "copy_file_range": """
try:
    while os.copy_file_range(fd, out, 1 << 30): pass
except OSError as error:
    if error.errno != errno.EXDEV:  # for this one, programs fall back to read and write
        raise
    while part := os.read(fd, 1 << 16):
        os.write(out, part)
""",
}

TOOLS = (
    *_commands(
        printed,
        "cat SOURCE",
        "dd if=SOURCE bs=777 status=none",
        "gio cat SOURCE",
        "rclone cat SOURCE",
        "tail -c 99999999 SOURCE",
    ),
    *_commands(printed_compressed, "gzip -c SOURCE"),
    *_commands(
        in_target,
        "cp SOURCE TARGET",
        "cp -a SOURCE TARGET",
        "dd if=SOURCE of=TARGET/NAME iflag=direct bs=1M status=none",
        "gio copy SOURCE TARGET",
        "rsync -a SOURCE TARGET",
        "rsync -c SOURCE TARGET",
        "rsync --preallocate SOURCE TARGET",
    ),
    *_commands(in_target, "rclone copy SOURCE TARGET", subjects=FILES_AND_FOLDER),
    *_commands(in_pieces, "split -b 100000 SOURCE TARGET/", "split -n 3 SOURCE TARGET/"),
    *_commands(in_zip, "zip -j -q ARCHIVE SOURCE", "zip -0 -j -q ARCHIVE SOURCE"),
    *_commands(
        in_tar,
        "tar -c -f ARCHIVE -C FOLDER NAME",
        "tar -c -S -f ARCHIVE -C FOLDER NAME",
        subjects=FILES_AND_FOLDER,
    ),
    *_programs(printed, _BY_HANDLE, _READING),
    *_programs(in_target, _BETWEEN_HANDLES, _COPYING_IN_THE_KERNEL),
    *_programs(
        printed,
        _BY_PATH,
        {"pathlib": "sys.stdout.buffer.write(pathlib.Path(source).read_bytes())"},
    ),
    *_programs(
        in_target,
        _BY_PATH,
        {
            "shutil.copy2": "shutil.copy2(source, copy)",
        },
    ),
    *_programs(
        in_zip,
        _BY_PATH,
        {"zipfile": "with zipfile.ZipFile(archive, 'w') as file: file.write(source, name)"},
    ),
    # Whole folders.
    *_commands(in_target, "cp -r SOURCE/. TARGET", "rsync -a SOURCE/ TARGET", subjects=(FOLDER,)),
    *_commands(in_zip, "env --chdir=FOLDER zip -q -r ARCHIVE .", subjects=(FOLDER,)),
    *_programs(
        in_target,
        _BY_PATH,
        {"shutil.copytree": "shutil.copytree(source, copy, dirs_exist_ok=True)"},
        subjects=(FOLDER,),
    ),
)

TRUSTING_TOOLS = (
    *_commands(
        in_target,
        "rclone copy --retries=1 SOURCE TARGET",
        subjects=FILES_AND_FOLDER,
        words="source file is being updated",
    ),
    *_programs(
        in_tar,
        _BY_PATH,
        {"tarfile": "with tarfile.open(archive, 'w') as file: file.add(source, name)"},
        subjects=FILES_AND_FOLDER,
        words="unexpected end of data",
    ),
)

_CPIO = {
    "cpio -o": 'ls | cpio --quiet -o > "$3"; cd "$2"; cpio --quiet -i < "$3"',
    "cpio -o -H newc": 'ls | cpio --quiet -o -H newc > "$3"; cd "$2"; cpio --quiet -i < "$3"',
    "cpio -p": 'ls | cpio --quiet -p "$2"',
}

PADDING_TOOLS = tuple(
    Tool(
        name,
        ("sh", "-e", "-c", f'cd "$1"; {script}', "sh", "FOLDER", "TARGET", "ARCHIVE"),
        in_target,
    )
    for name, script in _CPIO.items()
)


@dataclass(frozen=True)
class Reader:
    """A program whose output depends only on the bytes of a file, and contains `words`."""

    line: str
    subjects: Sequence[str] = FILES
    words: str = ""


READERS = (
    Reader("cmp SOURCE ORDINARY"),
    Reader("file SOURCE", (*FILES, *PAGES), "PDF document"),
    Reader("grep -c ^ SOURCE"),
    Reader("head -c 70000 SOURCE"),
    Reader("head -c -1 SOURCE"),
    Reader("mutool draw -F txt SOURCE", PAGES, SERVICE),
    Reader("pdftotext -layout SOURCE -", PAGES, SERVICE),
    Reader("qpdf --check SOURCE", PAGES, "No syntax or stream encoding errors found"),
    Reader("sha256sum SOURCE"),
    Reader("tail -c 70000 SOURCE"),
    Reader("wc -c SOURCE"),
)
