"""Progress bars for long operations, as wide as the terminal allows."""

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import click

from invoicefs.cli.bulk_fetch import Fetched
from invoicefs.cli.output import print_lines
from invoicefs.units import rounded_size

_SHORTEST_BAR = 10

_T = TypeVar("_T")


def with_progress(fetched: Iterator[Fetched], count: int) -> Iterator[Fetched]:
    """Yield the outcomes; show a progress bar on a terminal, or else a line for each tenth."""
    size_bytes, began_s = 0, time.monotonic()

    def so_far(_: object = None) -> str:
        per_second = size_bytes / max(time.monotonic() - began_s, 0.001)
        return f"{rounded_size(size_bytes)}, {rounded_size(round(per_second))}/s"

    if count == 0:
        return
    if not sys.stdout.isatty():
        for number, outcome in enumerate(fetched, start=1):
            size_bytes += outcome.size_bytes
            if number * 10 // count > (number - 1) * 10 // count:
                print_lines(f"{number} of {count}, {so_far()}")
            yield outcome
        return
    with click.progressbar(fetched, count, show_pos=True, **_bar_parts(count, so_far)) as bar:
        for outcome in bar:
            size_bytes += outcome.size_bytes
            yield outcome


def with_bar(items: Iterable[_T], count: int) -> Iterator[_T]:
    """Yield the items; show a progress bar on stderr if that is a terminal."""
    if count == 0 or not sys.stderr.isatty():
        yield from items
        return
    parts = _bar_parts(count)
    with click.progressbar(items, count, show_pos=True, file=sys.stderr, **parts) as bar:
        yield from bar


def _bar_parts(count: int, so_far: Callable[[object], str] | None = None) -> dict[str, Any]:
    """Return the parts of a progress bar that fit on one line of the terminal."""
    columns = shutil.get_terminal_size().columns
    left = columns - 1 - len("  []") - len(f"  {count}/{count}")
    parts: dict[str, Any] = {"item_show_func": None, "show_eta": False, "width": max(left, 1)}
    for name, value, width in (
        ("item_show_func", so_far, len("  1023.9 MiB, 1023.9 MiB/s")),
        ("show_eta", True, len("  99d 23:59:59")),
    ):
        if value and left - width >= _SHORTEST_BAR:
            left -= width
            parts |= {name: value, "width": left}
    return parts
