"""The same invoices as plain files over HTTP, for filesystems that do not know the API.

It supports what they need from a web server: an index for each folder, HEAD, ranges, dates, and
persistent connections.
"""

import re
import threading
from collections.abc import Mapping
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from invoicefs.sandbox import SampleTenant
from tests.mount.support.tenants import contents

_HOST = "127.0.0.1"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_MODIFIED = formatdate(1_700_000_000, usegmt=True)


class PlainFiles(ThreadingHTTPServer):
    """Serves the files of a tenant on the loopback interface; a context manager.

    Each response is sent `latency_s`, which may be set at any time, after its request has arrived,
    or when the server is `closing`.

    Threading: each connection has a thread of its own; `_lock` guards `_requests`.
    """

    daemon_threads = True
    request_queue_size = 1024  # with the usual 5, a burst of connections waits 1 s for a second SYN

    def __init__(self, tenant: SampleTenant, latency_s: float) -> None:
        super().__init__((_HOST, 0), _RequestHandler)
        self.latency_s = latency_s
        self._folders = {name: contents(tenant, name) for name in tenant.by_name}
        self._lock = threading.Lock()
        self._requests = 0
        self.closing = threading.Event()
        self._accepting = threading.Thread(target=self.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        """The URL of the root folder, without a trailing slash."""
        return f"http://{_HOST}:{self.server_address[1]}"

    @property
    def requests(self) -> int:
        """The number of requests since the start or the last `forget_requests`."""
        with self._lock:
            return self._requests

    def forget_requests(self) -> None:
        """Reset the number of requests."""
        with self._lock:
            self._requests = 0
        self.closing = threading.Event()

    def note_request(self) -> None:
        """Count one more request."""
        with self._lock:
            self._requests += 1

    def found(self, path: str) -> bytes | None:
        """Return the file or the index at this path, or None."""
        folder, _, name = path.removeprefix("/").partition("/")
        if name:
            return self._folders.get(folder, {}).get(name)
        if not folder:
            return self._index("")
        return self._index(folder) if folder in self._folders else None

    @cache  # noqa: B019 # a server lives as long as its process
    def _index(self, folder: str) -> bytes:
        names = self._folders[folder] if folder else [f"{name}/" for name in self._folders]
        return _index_page(names)


class _RequestHandler(BaseHTTPRequestHandler):
    server: PlainFiles
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # header and body are sent together

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _answer(self, *, has_body: bool) -> None:
        self.server.note_request()
        self.server.closing.wait(self.server.latency_s)
        path = urlsplit(self.path).path
        whole = self.server.found(path)
        if whole is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        wanted = requested_range(self.headers.get("Range"), len(whole))
        self.send_response(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK)
        part = wanted or range(len(whole))
        if wanted:
            self.send_header("Content-Range", f"bytes {part.start}-{part.stop - 1}/{len(whole)}")
        self.send_header("Content-Type", "text/html" if path.endswith("/") else "application/pdf")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", _MODIFIED)
        self.end_headers()
        if has_body:
            self.wfile.write(whole[part.start : part.stop])


def requested_range(header: str | None, size_bytes: int) -> range | None:
    """Return the bytes that a Range header requests; None for the whole file.

    Invalid and unsatisfiable ranges are ignored, as RFC 9110 (14.2) allows.
    """
    match = _RANGE.fullmatch(header or "")
    if not match or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        wanted = range(max(0, size_bytes - int(last)), size_bytes)
    else:
        wanted = range(int(first), min(int(last or size_bytes) + 1, size_bytes))
    return wanted or None


def _index_page(names: Mapping[str, bytes] | list[str]) -> bytes:
    links = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
    return f"<html><body><pre>\n{links}</pre></body></html>\n".encode()
