"""The API as an fsspec filesystem, mounted with fsspec's FUSE adapter, as a program.

    python -m tests.bench.invoice_files URL MOUNTPOINT        (the token in INVOICEFS_TOKEN)

This is the alternative to invoicefs that can be written in an hour: opened invoices stay in memory,
and the size of an invoice is an upper bound until it is opened.
"""

import base64
import io
import os
import sys
from typing import Any

import requests
from fsspec import AbstractFileSystem
from fsspec.fuse import run

_UPPER_BOUND_BYTES = 16 * 1024 * 1024
_MAX_INVOICES = 1_000_000


class InvoiceFiles(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """``/NAMESPACE/INVOICE.pdf``."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__()
        self._url = f"{url}/api/web/namespaces"
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"APIToken {token}"
        self._listings: dict[str, dict[str, dict[str, Any]]] = {}
        self._pdfs: dict[str, bytes] = {}

    def ls(self, path: str, detail: bool = True, **_: object) -> list[Any]:
        """Return the entries of a folder."""
        listing = self._listing(path.strip("/"))
        return list(listing.values() if detail else listing)

    def info(self, path: str, **_: object) -> dict[str, Any]:
        """Return the attributes of a path."""
        path = path.strip("/")
        if not path:
            return {"name": "", "size": 0, "type": "directory"}
        try:
            return self._listing(os.path.dirname(path))[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def _open(self, path: str, **_: object) -> io.BytesIO:
        path = path.strip("/")
        if path not in self._pdfs:
            namespace, name = path.removesuffix(".pdf").split("/")
            answer = self._get(f"/{namespace}/usage/invoice_pdf", name=name)
            self._pdfs[path] = base64.b64decode(answer["pdf"])
            self.info(path)["size"] = len(self._pdfs[path])
        return io.BytesIO(self._pdfs[path])

    def _listing(self, folder: str) -> dict[str, dict[str, Any]]:
        if folder not in self._listings:
            self._listings[folder] = self._files(folder) if folder else self._folders()
        return self._listings[folder]

    def _folders(self) -> dict[str, dict[str, Any]]:
        names = [item["name"] for item in self._get("")["items"]]
        return {name: {"name": name, "size": 0, "type": "directory"} for name in names}

    def _files(self, folder: str) -> dict[str, dict[str, Any]]:
        answer = self._get(f"/{folder}/usage/invoices/custom_list", limit=_MAX_INVOICES)
        paths = [f"{folder}/{invoice['name']}.pdf" for invoice in answer["invoices"]]
        return {
            path: {"name": path, "size": _UPPER_BOUND_BYTES, "type": "file", "mtime": 0}
            for path in paths
        }

    def _get(self, path: str, **query: object) -> Any:
        answer = self._session.get(self._url + path, params=query, timeout=30)  # type: ignore[arg-type]
        answer.raise_for_status()
        return answer.json()


if __name__ == "__main__":
    run(InvoiceFiles(sys.argv[1], os.environ["INVOICEFS_TOKEN"]), "", sys.argv[2])
