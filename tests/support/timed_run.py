"""The main program of a test that runs for a number of minutes, such as a soak."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201


def exit_status(broken_promises: Callable[[], Iterable[str]]) -> int:
    """Run a test that returns a sentence for each broken promise; print them.

    Returns 1 if there is one, or if the test itself fails. SIGTERM and Ctrl-C end the test with all
    that it has started.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    try:
        broken = list(broken_promises())
    except (AssertionError, subprocess.TimeoutExpired) as error:
        broken = [str(error)]
    for sentence in broken:
        say(sentence)
    return 1 if broken else 0


def _exit(number: int, _frame: object) -> None:
    """End what the test has started, even if a second signal arrives meanwhile."""
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)
