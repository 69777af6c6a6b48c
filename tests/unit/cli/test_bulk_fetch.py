"""Finding and fetching below a path, on ordinary folders: what has no blocks is to be fetched."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from invoicefs.cli import bulk_fetch as fetching
from invoicefs.cli.bulk_fetch import Fetched, Found
from invoicefs.errors import UserError


def nobody_knows(_: str) -> None:
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


def test_files_without_blocks_are_found_everywhere_below(folder: Path) -> None:
    found = fetching.find([str(folder)], nothing, nobody_knows)

    assert sorted(found.missing) == [f"{folder}/{part}/new.pdf" for part in "ab"]
    assert (len(found.files), found.failures) == (4, ())


def test_what_was_dropped_is_found_though_it_has_blocks(folder: Path) -> None:
    dropped = {f"{folder}/b/old.pdf"}

    found = fetching.find([f"{folder}/b"], lambda: dropped, nobody_knows)

    assert sorted(found.missing) == [f"{folder}/b/new.pdf", *dropped]
    assert sorted(found.files) == sorted(found.missing)


def test_a_file_may_be_named_itself(folder: Path) -> None:
    paths = [f"{folder}/a/new.pdf", f"{folder}/b/old.pdf"]

    assert fetching.find(paths, nothing, nobody_knows) == Found(tuple(paths), (paths[0],), ())


def test_a_path_inside_of_another_one_is_counted_once(folder: Path) -> None:
    found = fetching.find([str(folder), f"{folder}/a"], nothing, nobody_knows)

    assert len(found.files) == 4


def test_what_is_not_there_is_told_with_the_reason_of_the_system_or_a_better_one(
    folder: Path,
) -> None:
    path = f"{folder}/missing"

    plain = fetching.find([path], nothing, nobody_knows)
    better = fetching.find([path], nothing, lambda each: f"{each} was never issued")

    assert plain.failures == (Fetched(path, failure="No such file or directory"),)
    assert better.failures == (Fetched(path, failure=f"{path} was never issued"),)


def test_a_file_that_cannot_be_opened_is_told_and_the_others_are_fetched(folder: Path) -> None:
    files = [f"{folder}/a/old.pdf", f"{folder}/a/missing.pdf", f"{folder}/b/old.pdf"]

    outcomes = sorted(
        fetching.fetch(files, 2, fetching.opening(nobody_knows)), key=lambda each: each.path
    )

    assert [each.path for each in outcomes] == sorted(files)
    assert [each.size_bytes for each in outcomes] == [0, 5000, 5000]
    assert [bool(each.failure) for each in outcomes] == [True, False, False]


def test_whoever_stops_listening_stops_it(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked: list[str] = []
    is_stopped = threading.Event()
    shut_down = ThreadPoolExecutor.shutdown

    def shut_down_and_tell(
        threads: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False
    ) -> None:
        shut_down(threads, wait=False, cancel_futures=cancel_futures)
        is_stopped.set()
        shut_down(threads, wait=wait)

    def bring(path: str) -> Fetched:
        asked.append(path)
        if len(asked) > 3:
            is_stopped.wait(20)
        return Fetched(path)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut_down_and_tell)
    outcomes = fetching.fetch([f"{folder}/missing-{each}" for each in range(500)], 1, bring)
    assert len(list(islice(outcomes, 3))) == 3
    outcomes.close()

    assert len(asked) == 4


def test_what_is_there_can_be_brought_again_and_a_refusal_is_told(folder: Path) -> None:
    files = [f"{folder}/a/old.pdf", f"{folder}/b/old.pdf", f"{folder}/gone.pdf"]

    def download_again(path: str) -> None:
        if path == files[1]:
            raise UserError("the server answered 404")

    found = list(fetching.fetch(files, 1, fetching.replacing(download_again)))

    assert found == [
        Fetched(files[0], 5000),
        Fetched(files[1], failure="the server answered 404"),
        Fetched(files[2], failure="No such file or directory"),
    ]
