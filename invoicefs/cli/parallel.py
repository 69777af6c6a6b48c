"""Calls that wait for mounts, several at the same time, which Ctrl-C does not have to wait for."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from invoicefs.threads import start_thread

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(
    function: Callable[[_Item], _Result], items: Sequence[_Item], count: int
) -> list[_Result]:
    """Return the results of a function for all items, from up to `count` calls at a time.

    The function must not raise exceptions. The threads are daemons: when the program is
    interrupted, it ends although they wait. Raises `OutOfMemory` if there can be no thread.
    """
    results: dict[int, _Result] = {}
    rest = iter(enumerate(items))
    guard = threading.Lock()

    def work() -> None:
        while True:
            with guard:
                number, item = next(rest, (None, None))
            if number is None:
                return
            results[number] = function(item)  # type: ignore[arg-type] # a number has an item

    threads = [start_thread(work, "wait") for _ in range(min(count, len(items)))]
    for thread in threads:
        thread.join()
    return [results[number] for number in range(len(items))]
