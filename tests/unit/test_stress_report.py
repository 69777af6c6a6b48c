"""The truth and the verdict of a stress test."""

from collections import Counter

import pytest

from tests.stress.reader import difference
from tests.stress.report import Report, broken_promises, decoded
from tests.stress.tenant import File
from tests.stress.ways import Piece

DRAFT = File(7, "invoice-001", is_draft=True)


def test_a_stress_test_without_a_failure_breaks_no_promise() -> None:
    assert list(broken_promises(Report(reads=Counter(read=1)), [])) == []


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report(), "Nothing was read."),
        (Report(reads=Counter(read=2), wrong=Counter(read=1)), "with read: 1 of 2"),
        (Report(reads=Counter(read=2), not_applied=Counter(draft=1)), "of a draft after open: 1"),
        (Report(reads=Counter(read=2), errors=Counter({"read: EIO": 1})), "read: EIO, 1 times"),
    ],
)
def test_each_kind_of_failure_is_reported(report: Report, words: str) -> None:
    (sentence,) = broken_promises(report, [])
    assert words in sentence


def test_a_warning_in_the_log_is_reported() -> None:
    (sentence,) = broken_promises(Report(reads=Counter(read=1)), ["WARNING: no memory"])
    assert "no memory" in sentence


def test_reports_are_added_after_they_were_sent() -> None:
    total = Report(reads=Counter(read=1))
    sent = Report(reads=Counter(read=2), errors=Counter({"read: EIO": 1}), wrong_examples=["x"])
    total.add(decoded(sent.encoded()))
    assert total == Report(Counter(read=3), errors=Counter({"read: EIO": 1}), wrong_examples=["x"])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (b"abcd\0\0", "wrong from 14: the end expected, 0000 found, 2 zeros"),
        (b"ab\0\0", "wrong from 12: 6364 expected, 0000 found, 2 zeros"),
        (b"abxd", "wrong from 12: 6364 expected, 7864 found, 2 bytes that are not all zeros"),
        (b"abc", "ends at 13, 1 bytes too early"),
    ],
)
def test_a_wrong_read_is_described_by_its_first_difference(found: bytes, words: str) -> None:
    assert words in difference(Piece(10, 100, found), b"abcd")


def test_content_names_its_file_and_version_and_has_no_zeros() -> None:
    content = DRAFT.content(3)
    assert DRAFT.version_of(content[:100]) == 3
    assert File(8, "invoice-001", is_draft=True).version_of(content[:100]) is None
    assert content.startswith(b"%PDF-")
    assert content.endswith(b"%%EOF\n")
    assert b"\0" not in content
    assert len(content) != len(DRAFT.content(4))
