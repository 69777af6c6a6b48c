"""The system clock."""

from pathlib import Path

from invoicefs.clock import SystemClock


def test_the_wall_clock_is_not_ahead_of_the_mtimes_of_later_files(tmp_path: Path) -> None:
    """Otherwise the copy of an invoice would look older than the invoice."""
    for number in range(100):
        now_ns = SystemClock().wall_ns()
        copy = tmp_path / str(number)
        copy.touch()
        assert now_ns <= copy.stat().st_mtime_ns
