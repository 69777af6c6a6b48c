"""The clock of the machine."""

from pathlib import Path

from invoicefs.clock import SystemClock


def test_the_wall_clock_is_not_ahead_of_files_that_are_written_later(tmp_path: Path) -> None:
    """The archive of an invoice would else look older than the invoice."""
    for number in range(100):
        now_ns = SystemClock().wall_ns()
        copy = tmp_path / str(number)
        copy.touch()
        assert now_ns <= copy.stat().st_mtime_ns
