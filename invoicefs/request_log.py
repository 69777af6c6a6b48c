"""What is told of one request: in the log with ``-v``, and in a note of what it raises (PEP 678).

Method, path, status, request id and duration. Not the query: where a server redirects to, it may
hold what it likes. The secret that was sent is told nowhere, however a server repeats it.
"""

import logging
import time
from typing import Self
from urllib.parse import urlsplit

from invoicefs.answers import hidden, on_one_line
from invoicefs.errors import InvoicefsError, NoAnswer

log = logging.getLogger(__name__)


class RequestReport:
    """Tells of the request that is made inside its ``with`` block, when that ends."""

    def __init__(self, url: str, secret: str) -> None:
        self._secret = secret
        self._words = f"GET {on_one_line(hidden(urlsplit(url).path, secret))}"
        self._began_s = time.monotonic()

    def note_answer(self, status: int, request_id: str) -> None:
        """Take note of the head of an answer; the id is empty where there is none."""
        self._words += f": {status}"
        if request_id:
            self._words += f", request id {on_one_line(hidden(request_id, self._secret))}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, InvoicefsError):
            error.add_note(self._words)
        outcome = f" ({error})" if isinstance(error, NoAnswer) else ""
        log.info("%s after %.3f s%s", self._words, time.monotonic() - self._began_s, outcome)
