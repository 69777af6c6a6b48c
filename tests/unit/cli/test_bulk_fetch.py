"""`invoicefs fetch` on ordinary folders: files without blocks have yet to be downloaded."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from invoicefs.cli import bulk_fetch as fetching
from invoicefs.cli.bulk_fetch import Fetched, Found
from invoicefs.errors import UserError


def no_reason(_: str) -> None:
    return None


def nothing() -> frozenset[str]:
    return frozenset()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "new.pdf").touch()  # an empty file has no blocks
        (tmp_path / part / "old.pdf").write_bytes(b"x" * 5000)
    return tmp_path


def test_files_without_blocks_are_found_in_all_subfolders(folder: Path) -> None:
    found = fetching.find([str(folder)], nothing, no_reason)

    assert sorted(found.missing) == [f"{folder}/{part}/new.pdf" for part in "ab"]
    assert (len(found.files), found.failures) == (4, ())


def test_evicted_files_are_found_although_they_have_blocks(folder: Path) -> None:
    evicted = {f"{folder}/b/old.pdf"}

    found = fetching.find([f"{folder}/b"], lambda: evicted, no_reason)

    assert sorted(found.missing) == [f"{folder}/b/new.pdf", *evicted]
    assert sorted(found.files) == sorted(found.missing)


def test_a_path_can_be_a_single_file(folder: Path) -> None:
    paths = [f"{folder}/a/new.pdf", f"{folder}/b/old.pdf"]

    assert fetching.find(paths, nothing, no_reason) == Found(tuple(paths), (paths[0],), ())


def test_files_below_overlapping_paths_are_counted_once(folder: Path) -> None:
    found = fetching.find([str(folder), f"{folder}/a"], nothing, no_reason)

    assert len(found.files) == 4


def test_a_missing_path_is_reported_with_its_reason(
    folder: Path,
) -> None:
    path = f"{folder}/missing"

    plain = fetching.find([path], nothing, no_reason)
    better = fetching.find([path], nothing, lambda name: f"{name} was never issued")

    assert plain.failures == (
        Fetched(path, failure="No such file or directory", errno_name="ENOENT"),
    )
    assert better.failures == (
        Fetched(path, failure=f"{path} was never issued", errno_name="ENOENT"),
    )


def test_a_failed_open_is_reported_and_the_others_are_fetched(folder: Path) -> None:
    files = [f"{folder}/a/old.pdf", f"{folder}/a/missing.pdf", f"{folder}/b/old.pdf"]

    outcomes = sorted(
        fetching.fetch(files, 2, fetching.downloader(no_reason)), key=lambda outcome: outcome.path
    )

    assert [outcome.path for outcome in outcomes] == sorted(files)
    assert [outcome.size_bytes for outcome in outcomes] == [0, 5000, 5000]
    assert [bool(outcome.failure) for outcome in outcomes] == [True, False, False]


def test_closing_the_results_stops_the_downloads(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    opened: list[str] = []
    is_stopped = threading.Event()
    shut_down = ThreadPoolExecutor.shutdown

    def shut_down_and_set(
        threads: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False
    ) -> None:
        shut_down(threads, wait=False, cancel_futures=cancel_futures)
        is_stopped.set()
        shut_down(threads, wait=wait)

    def download(path: str) -> Fetched:
        opened.append(path)
        if len(opened) > 3:
            is_stopped.wait(20)
        return Fetched(path)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut_down_and_set)
    outcomes = fetching.fetch([f"{folder}/missing-{number}" for number in range(500)], 1, download)
    assert len(list(islice(outcomes, 3))) == 3
    outcomes.close()

    assert len(opened) <= 4  # the fourth may have begun before


def test_files_are_downloaded_again_and_refusals_are_reported(folder: Path) -> None:
    files = [f"{folder}/a/old.pdf", f"{folder}/b/old.pdf", f"{folder}/gone.pdf"]

    def download_again(path: str) -> None:
        if path == files[1]:
            raise UserError("the server answered 404")

    found = list(fetching.fetch(files, 1, fetching.replacing_downloader(download_again)))

    assert found == [
        Fetched(files[0], 5000),
        Fetched(files[1], failure="the server answered 404"),
        Fetched(files[2], failure="No such file or directory", errno_name="ENOENT"),
    ]
