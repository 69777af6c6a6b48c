"""Every tool gets the server's bytes, also where it is the first to open a file.

Before its first open a file shows an upper bound as its size and no blocks, so a tool that goes
by an earlier ``stat`` could keep a short, padded or sparse copy without an error.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.files import UPPER_BOUND_BYTES
from tests.mount.support.mounts import Mounts
from tests.mount.support.tool_stage import FILES, Place, Stage, everything
from tests.mount.support.tools import (
    PADDING_TOOLS,
    READERS,
    TOOLS,
    TRUSTING_TOOLS,
    Reader,
    Tool,
    in_target,
)


@contextmanager
def stage_with(folder: Path, *options: str) -> Iterator[Stage]:
    with Sandbox(everything()) as sandbox, closing(Mounts(sandbox, folder)) as mounts:
        yield Stage(sandbox, mounts.mount(*options))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A mount with the default options."""
    with stage_with(tmp_path_factory.mktemp("tools")) as stage:
        yield stage


@pytest.fixture(scope="module")
def eager_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A mount on which every look waits for the download."""
    with stage_with(tmp_path_factory.mktemp("eager"), "--fetch", "on-stat") as stage:
        yield stage


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """Room for copies, which are not kept: they are hundreds of megabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def each_with(tools: Iterable[Tool]) -> pytest.MarkDecorator:
    """Run a test with each tool, and on each of its subjects."""
    cases = [
        pytest.param(tool, subject, id=f"{tool.name}-{subject}")
        for tool in tools
        for subject in tool.subjects
    ]
    return pytest.mark.parametrize(("tool", "subject"), cases)


@pytest.mark.promise(
    "`cp`, `rsync`, `tar`, `zip`, `gio copy` and PDF viewers ask for the size after opening a"
    " file, and are right in either case."
)
@pytest.mark.promise(
    "A program that opens and reads an invoice gets all of it or an error, never wrong, short"
    " or empty content."
)
@each_with(TOOLS)
def test_a_tool_gets_the_servers_bytes_of_a_never_opened_file(
    stage: Stage, room: Path, tool: Tool, subject: str
) -> None:
    place = stage.never_opened(subject, room)
    ended = place.run(*tool.argv).good()
    assert place.differences(tool.copied(ended, place)) == []
    assert stage.pdf_calls(place) == len(place.expected)


@each_with((*TOOLS, *TRUSTING_TOOLS, *PADDING_TOOLS))
def test_every_tool_gets_the_servers_bytes_of_a_downloaded_file(
    stage: Stage, room: Path, tool: Tool, subject: str
) -> None:
    place = stage.downloaded(subject, room)
    ended = place.run(*tool.argv).good()
    assert place.differences(tool.copied(ended, place)) == []
    assert stage.pdf_calls(place) == len(place.expected)


@pytest.mark.promise(
    "Programs that rely on a size from before the open need that option: with a file that was"
    " never opened, Python's `tarfile` fails, `diff` reports a difference, and `cpio` pads it"
    " with zeros and only warns."
)
@each_with((*TRUSTING_TOOLS, *PADDING_TOOLS))
def test_a_tool_that_goes_by_an_early_stat_is_right_where_looks_wait(
    eager_stage: Stage, room: Path, tool: Tool, subject: str
) -> None:
    place = eager_stage.never_accessed(subject, room)
    ended = place.run(*tool.argv).good()
    assert place.differences(tool.copied(ended, place)) == []
    assert eager_stage.pdf_calls(place) == len(place.expected)


@pytest.mark.promise(
    "Programs that rely on a size from before the open need that option: with a file that was"
    " never opened, Python's `tarfile` fails, `diff` reports a difference, and `cpio` pads it"
    " with zeros and only warns."
)
@each_with(TRUSTING_TOOLS)
def test_a_tool_that_goes_by_an_early_stat_fails_loudly_and_leaves_no_wrong_copy(
    stage: Stage, room: Path, tool: Tool, subject: str
) -> None:
    place = stage.never_opened(subject, room)
    ended = place.run(*tool.argv)
    copies = tool.copied(ended, place)
    if ended.code == 0:  # a version of it that looks again
        assert place.differences(copies) == []
    else:
        assert tool.words in ended.err
        left = {name: copy for name, copy in copies.items() if copy}
        assert place.differences({**place.expected, **left}) == []
    assert 1 <= stage.pdf_calls(place) <= len(place.expected)


@pytest.mark.promise(
    "Programs that rely on a size from before the open need that option: with a file that was"
    " never opened, Python's `tarfile` fails, `diff` reports a difference, and `cpio` pads it"
    " with zeros and only warns."
)
@each_with(PADDING_TOOLS)
def test_cpio_pads_a_never_opened_file_with_zeros_and_only_warns(
    stage: Stage, room: Path, tool: Tool, subject: str
) -> None:
    place = stage.never_opened(subject, room)
    ended = place.run(*tool.argv).good()
    (copy,), (pdf,) = tool.copied(ended, place).values(), place.expected.values()
    missing = UPPER_BOUND_BYTES - len(pdf)
    warning = f"cpio: File {place.name} shrunk by {missing} bytes, padding with zeros\n"
    assert ended.err == warning
    is_padded = copy == pdf + bytes(missing)  # in words: pytest would print the bytes
    assert is_padded
    assert stage.pdf_calls(place) == 1


Prepare = Callable[[Stage, str, Path], Place]
IN_BOTH_STATES = pytest.mark.parametrize(
    "prepare", [Stage.never_opened, Stage.downloaded], ids=["never opened", "downloaded"]
)


def said(place: Place, line: str) -> bytes:
    """What a program prints of the file of the mount or of the ordinary one."""
    out = place.run(*line.split()).good().out
    for path in (place.source, place.ordinary_source):
        out = out.replace(bytes(path), b"FILE")
    return out


@pytest.mark.promise(
    "`cp`, `rsync`, `tar`, `zip`, `gio copy` and PDF viewers ask for the size after opening a"
    " file, and are right in either case."
)
@IN_BOTH_STATES
@pytest.mark.parametrize(
    ("reader", "subject"),
    [
        pytest.param(reader, subject, id=f"{reader.line}-{subject}")
        for reader in READERS
        for subject in reader.subjects
    ],
)
def test_a_program_that_reads_a_file_says_the_same_as_of_an_ordinary_one(
    stage: Stage, room: Path, reader: Reader, subject: str, prepare: Prepare
) -> None:
    place = prepare(stage, subject, room)
    text = said(place, reader.line)
    assert reader.words.encode() in text
    assert text == said(place, reader.line.replace("SOURCE", "ORDINARY"))
    assert stage.pdf_calls(place) == 1


@IN_BOTH_STATES
@pytest.mark.parametrize("options", ["-a", "-c", "-c --inplace", "-c --inplace --no-whole-file"])
@pytest.mark.parametrize(
    "changed",
    [lambda pdf: b"x" + pdf[1:], lambda pdf: pdf[:999], lambda pdf: pdf + pdf],
    ids=["same size", "shorter", "longer"],
)
def test_rsync_makes_a_different_copy_right(
    stage: Stage,
    room: Path,
    changed: Callable[[bytes], bytes],
    options: str,
    prepare: Prepare,
) -> None:
    place = prepare(stage, FILES[-1], room)
    (pdf,) = place.expected.values()
    (place.target / place.name).write_bytes(changed(pdf))
    ended = place.run("rsync", *options.split(), "SOURCE", "TARGET").good()
    assert place.differences(in_target(ended, place)) == []
    assert stage.pdf_calls(place) == 1


@pytest.mark.promise(
    "Programs that rely on a size from before the open need that option: with a file that was"
    " never opened, Python's `tarfile` fails, `diff` reports a difference, and `cpio` pads it"
    " with zeros and only warns."
)
@pytest.mark.parametrize("line", ["diff SOURCE ORDINARY", "diff --brief SOURCE ORDINARY"])
def test_diff_may_take_a_file_for_a_different_one_until_it_was_read(
    stage: Stage, room: Path, line: str
) -> None:
    place = stage.never_opened(FILES[0], room)
    first = place.run(*line.split())
    assert first.code == 0 or first.text.endswith(" differ\n")
    place.run("cat", "SOURCE").good()
    place.run(*line.split()).good()
    assert stage.pdf_calls(place) == 1
