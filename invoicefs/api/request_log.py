"""Reports a request: in the log with ``-v``, and in a note on the exception it raises (PEP 678).

The log line has method, path, status, request id and duration, the note all but the duration.
Neither has the query, which may be anything after a redirect, nor the secret that was sent, even if
the server repeats it.
"""

import logging
import time
from collections.abc import Callable
from typing import Final, Self
from urllib.parse import urlsplit

from invoicefs.api.redaction import hidden, on_one_line
from invoicefs.errors import InvoicefsError, NoResponse

log = logging.getLogger(__name__)


NO_ANSWER: Final = "no answer"
"""The result of a request that got no response, in place of a status."""

CountRequest = Callable[[str, str, InvoicefsError | None], None]
"""Counts a request of a kind by its result (a status, or `NO_ANSWER`), with its error, if any."""


class RequestReport:
    """Reports the request that is made inside its ``with`` block when the block ends."""

    def __init__(self, kind: str, url: str, secret: str, count: CountRequest) -> None:
        self._kind = kind
        self._secret = secret
        self._count = count
        self._result = NO_ANSWER
        self._words = f"GET {on_one_line(hidden(urlsplit(url).path, secret))}"
        self._began_s = time.monotonic()

    def note_response(self, status: int, request_id: str) -> None:
        """Note the head of a response; the id is empty if there is none."""
        self._result = str(status)
        self._words += f": {status}"
        if request_id:
            self._words += f", request id {on_one_line(hidden(request_id, self._secret))}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        failure = error if isinstance(error, InvoicefsError) else None
        self._count(self._kind, self._result, failure)
        if failure is not None:
            failure.add_note(self._words)
        outcome = f" ({error})" if isinstance(error, NoResponse) else ""
        log.info("%s after %.3f s%s", self._words, time.monotonic() - self._began_s, outcome)
