"""Every tool gets the server's bytes, even if it is the first to open a file.

Before the first open a file shows an upper bound as its size, and no blocks, so a tool that trusts
an earlier ``stat`` could leave a short, padded or sparse copy without an error.
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
    # Each tool gets the next namespace, so read-ahead would download it before.
    with Sandbox(everything()) as sandbox, closing(Mounts(sandbox, folder)) as mounts:
        yield Stage(sandbox, mounts.mount("--read-ahead", "0", *options))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A mount with the default options."""
    with stage_with(tmp_path_factory.mktemp("tools")) as stage:
        yield stage


@pytest.fixture(scope="module")
def on_stat_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A mount with ``--fetch on-stat``."""
    with stage_with(tmp_path_factory.mktemp("eager"), "--fetch", "on-stat") as stage:
        yield stage


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder for copies, which is removed: they take hundreds of megabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def with_tools(tools: Iterable[Tool]) -> pytest.MarkDecorator:
    """Run a test with every tool on every one of its subjects."""
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
@with_tools(TOOLS)
def test_a_tool_copies_a_never_opened_file_exactly(
    stage: Stage, room: Path, tool: Tool, subject: str
) -> None:
    place = stage.never_opened(subject, room)
    ended = place.run(*tool.argv).good()
    assert place.differences(tool.copied(ended, place)) == []
    assert stage.pdf_requests(place) == len(place.expected)


@pytest.mark.promise(
    "Programs that rely on a size from before the open need that option: with a file that was"
    " never opened, Python's `tarfile` fails, `diff` reports a difference, and `cpio` pads it"
    " with zeros and only warns."
)
@with_tools((*TRUSTING_TOOLS, *PADDING_TOOLS))
def test_a_tool_that_trusts_an_early_stat_is_right_with_fetch_on_stat(
    on_stat_stage: Stage, room: Path, tool: Tool, subject: str
) -> None:
    place = on_stat_stage.never_accessed(subject, room)
    ended = place.run(*tool.argv).good()
    assert place.differences(tool.copied(ended, place)) == []
    assert on_stat_stage.pdf_requests(place) == len(place.expected)


@pytest.mark.promise(
    "Programs that rely on a size from before the open need that option: with a file that was"
    " never opened, Python's `tarfile` fails, `diff` reports a difference, and `cpio` pads it"
    " with zeros and only warns."
)
@with_tools(TRUSTING_TOOLS)
def test_a_tool_that_trusts_an_early_stat_fails_and_leaves_no_wrong_copy(
    stage: Stage, room: Path, tool: Tool, subject: str
) -> None:
    place = stage.never_opened(subject, room)
    ended = place.run(*tool.argv)
    copies = tool.copied(ended, place)
    if ended.code == 0:  # a version that stats again after opening
        assert place.differences(copies) == []
    else:
        assert tool.words in ended.err
        left = {name: copy for name, copy in copies.items() if copy}
        assert place.differences({**place.expected, **left}) == []
    assert 1 <= stage.pdf_requests(place) <= len(place.expected)


@pytest.mark.promise(
    "Programs that rely on a size from before the open need that option: with a file that was"
    " never opened, Python's `tarfile` fails, `diff` reports a difference, and `cpio` pads it"
    " with zeros and only warns."
)
@with_tools(PADDING_TOOLS)
def test_cpio_pads_a_never_opened_file_with_zeros_and_warns(
    stage: Stage, room: Path, tool: Tool, subject: str
) -> None:
    place = stage.never_opened(subject, room)
    ended = place.run(*tool.argv).good()
    (copy,), (pdf,) = tool.copied(ended, place).values(), place.expected.values()
    missing = UPPER_BOUND_BYTES - len(pdf)
    warning = f"cpio: File {place.name} shrunk by {missing} bytes, padding with zeros\n"
    assert ended.err == warning
    is_padded = copy == pdf + bytes(missing)  # a bool, because pytest would print the bytes
    assert is_padded
    assert stage.pdf_requests(place) == 1


def output_of(place: Place, line: str) -> bytes:
    """Return the output of a program, with FILE for the path of either file."""
    out = place.run(*line.split()).good().out
    for path in (place.source, place.ordinary_source):
        out = out.replace(bytes(path), b"FILE")
    return out


@pytest.mark.promise(
    "`cp`, `rsync`, `tar`, `zip`, `gio copy` and PDF viewers ask for the size after opening a"
    " file, and are right in either case."
)
@pytest.mark.parametrize(
    ("reader", "subject"),
    [
        pytest.param(reader, subject, id=f"{reader.line}-{subject}")
        for reader in READERS
        for subject in reader.subjects
    ],
)
def test_a_reader_prints_the_same_as_for_an_ordinary_file(
    stage: Stage, room: Path, reader: Reader, subject: str
) -> None:
    place = stage.never_opened(subject, room)
    text = output_of(place, reader.line)
    assert reader.words.encode() in text
    assert text == output_of(place, reader.line.replace("SOURCE", "ORDINARY"))
    assert stage.pdf_requests(place) == 1


@pytest.mark.parametrize(
    "changed",
    [lambda pdf: b"x" + pdf[1:], lambda pdf: pdf[:999], lambda pdf: pdf + pdf],
    ids=["same size", "shorter", "longer"],
)
def test_rsync_corrects_a_different_copy(
    stage: Stage,
    room: Path,
    changed: Callable[[bytes], bytes],
) -> None:
    place = stage.never_opened(FILES[-1], room)
    (pdf,) = place.expected.values()
    (place.target / place.name).write_bytes(changed(pdf))
    options = ("-c", "--inplace", "--no-whole-file")
    ended = place.run("rsync", *options, "SOURCE", "TARGET").good()
    assert place.differences(in_target(ended, place)) == []
    assert stage.pdf_requests(place) == 1


@pytest.mark.promise(
    "Programs that rely on a size from before the open need that option: with a file that was"
    " never opened, Python's `tarfile` fails, `diff` reports a difference, and `cpio` pads it"
    " with zeros and only warns."
)
@pytest.mark.parametrize("line", ["diff SOURCE ORDINARY", "diff --brief SOURCE ORDINARY"])
def test_diff_may_report_a_difference_until_the_file_was_read(
    stage: Stage, room: Path, line: str
) -> None:
    place = stage.never_opened(FILES[0], room)
    first = place.run(*line.split())
    assert first.code == 0 or first.text.endswith(" differ\n")
    place.run("cat", "SOURCE").good()
    place.run(*line.split()).good()
    assert stage.pdf_requests(place) == 1
