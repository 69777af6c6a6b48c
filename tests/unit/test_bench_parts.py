"""The pure functions of the benchmark, except its table."""

import os
import shutil
from dataclasses import fields, replace
from pathlib import Path
from subprocess import TimeoutExpired

import pytest

from invoicefs.settings import Settings
from tests.bench.comparison import in_order, reason, scenarios_for
from tests.bench.contestants import (
    CONTESTANTS,
    FSSPEC,
    INVOICEFS,
    RCLONE,
    Contestant,
    invoicefs_at,
    missing_part,
)
from tests.bench.limits import PARALLEL, limit_s
from tests.bench.mirrored import main as mirror
from tests.bench.pipelines import CLIENT
from tests.bench.plain_files import requested_range
from tests.bench.profiling import Share, profile_lines, shares
from tests.bench.revision import checked_out, commit_of
from tests.bench.rows import PROFILED, ROWS
from tests.bench.scenarios import scenarios
from tests.bench.waiting import OPENS, chosen
from tests.mount.support.programs import run


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("bytes=0-9", range(10)),
        ("bytes=90-", range(90, 100)),
        ("bytes=90-1000", range(90, 100)),
        ("bytes=-10", range(90, 100)),
        ("bytes=-1000", range(100)),
        ("bytes=100-", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-9", None),
    ],
)
def test_a_range_header_is_parsed_and_clamped(header: str | None, wanted: range | None) -> None:
    assert requested_range(header, 100) == wanted


def test_shares_count_a_function_once_per_stack() -> None:
    stacks = ["run (a.py:1);walk (a.py:5);walk (a.py:6) 3", "run (a.py:2) 1"]
    assert shares(stacks) == [Share("walk (a.py)", 3, 3), Share("run (a.py)", 1, 4)]


def test_a_profile_shows_shares_of_all_samples() -> None:
    lines = list(profile_lines(["run (a.py:1);walk (a.py:5) 3", "run (a.py:1) 1"], 10.0, most=1))
    assert " 75.0%  75.0%  walk (a.py)" in lines
    assert " 25.0% 100.0%  run (a.py)" in lines


def test_an_empty_profile_can_be_shown() -> None:
    assert list(profile_lines([], 1.0, most=5))


def test_a_reason_is_one_line_without_temporary_folders() -> None:
    error = AssertionError('cp ends with 1: "/tmp/x-1/a/mnt/archive/b.pdf": no\nmore')
    assert reason(error, Path("/tmp/x-1")) == 'cp ends with 1: "b.pdf": no'  # noqa: S108


def test_a_reason_names_the_command_that_timed_out() -> None:
    assert reason(TimeoutExpired(("cp", "-r"), 150.0), Path("/")) == "cp takes longer than 150 s"


def test_every_row_is_measured_and_every_profiled_row_by_one_scenario() -> None:
    assert {key for scenario in scenarios() for key in scenario.rows} == {row.key for row in ROWS}
    assert all(len(scenarios_for([key])) == 1 for key in PROFILED)


def test_every_contestant_of_a_scenario_is_known() -> None:
    names = {contestant.name for contestant in CONTESTANTS}
    assert all(set(scenario.runs) <= names for scenario in scenarios())
    assert all(target.contestant in names for row in ROWS for target in row.targets)


def test_the_limit_is_that_of_the_default_number_of_requests_in_flight() -> None:
    (default,) = [field.default for field in fields(Settings) if field.name == "parallel"]
    assert default == PARALLEL
    assert limit_s(200, 0.05) == 200 * 0.05 / PARALLEL


def test_what_a_contestant_lacks_is_named() -> None:
    assert missing_part(INVOICEFS) is None
    lacking: list[Contestant] = [
        replace(RCLONE, program="no-such-program"),
        replace(FSSPEC, module="no_such_module"),
        replace(CLIENT, module="no_such_module"),
    ]
    assert [missing_part(contestant) for contestant in lacking] == [
        "no-such-program is not installed.",
        *["The Python package no_such_module is not installed."] * 2,
    ]


def test_a_mirrored_folder_has_what_rsync_compares(tmp_path: Path) -> None:
    folder, copy = tmp_path / "folder", tmp_path / "copy"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(b"content")
    (folder / "a.pdf").chmod(0o444)
    os.utime(folder / "a.pdf", ns=(1, 2))
    os.utime(folder, ns=(3, 4))
    mirror(folder, copy)
    for shown, made in ((folder, copy), (folder / "a.pdf", copy / "a.pdf")):
        assert _compared(made.stat()) == _compared(shown.stat())


def _compared(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_mode


def test_another_revision_is_measured_right_after_this_one_in_every_scenario() -> None:
    other = invoicefs_at("v1", Path("/v1"))
    for scenario in scenarios((INVOICEFS, other)):
        assert list(scenario.runs)[:2] == ["invoicefs", "invoicefs at v1"]


def test_every_second_round_is_in_reverse_order() -> None:
    assert [in_order("abc", number) for number in range(3)] == ["abc", "cba", "abc"]


def test_opened_files_are_not_watched() -> None:
    paths = [Path(str(number)) for number in range(100)]
    opened, others = chosen(paths)
    assert len(opened) == OPENS
    assert sorted([*opened, *others]) == sorted(paths)
    assert chosen(paths) == (opened, others)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of one file, which was changed since."""
    path = tmp_path / "repository"
    file = path / "file"
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    run("git", "init", "--quiet", path).good()
    file.write_text("committed", encoding="utf-8")
    run("git", "-C", path, "add", file).good()
    run("git", "-C", path, *author, "commit", "--quiet", "--message", "first").good()
    file.write_text("changed", encoding="utf-8")
    return path


def test_only_a_commit_is_a_revision(repository: Path) -> None:
    assert commit_of("HEAD", repository)
    assert [commit_of(text, repository) for text in ("v1", "HEAD:file", "--all", "")] == [None] * 4


def test_a_checked_out_revision_is_removed_even_after_a_failure(
    repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "revision"

    def fail_to_measure() -> None:
        with checked_out("HEAD", folder, repository):
            assert (folder / "file").read_text(encoding="utf-8") == "committed"
            raise OSError("measuring failed")

    with pytest.raises(OSError, match="measuring failed"):
        fail_to_measure()
    assert not folder.exists()
    worktrees = run("git", "-C", repository, "worktree", "list").good()
    assert len(worktrees.lines) == 1


def test_a_checkout_of_a_killed_run_does_not_prevent_the_next_one(
    repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "revision"
    run("git", "-C", repository, "worktree", "add", "--detach", folder).good()
    shutil.rmtree(folder)
    with checked_out("HEAD", folder, repository):
        assert (folder / "file").exists()
