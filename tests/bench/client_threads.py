"""Archives namespaces with a thread pool over the public Python client of the API, as a program.

    client_threads.py THREADS        (URL, TOKEN and NAMESPACES, separated by spaces, in variables)

Writes NAMESPACE/NAME.pdf into the working folder. It prints a line when everything is imported,
and begins when it has read one. A CA bundle is read from SSL_CERT_FILE.
"""

import base64
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_MAX_INVOICES = 1_000_000


def _archive(invoices: Any, namespaces: Sequence[str], pool: ThreadPoolExecutor) -> None:
    def download(invoice: tuple[str, str]) -> None:
        namespace, name = invoice
        answer = invoices.download_invoice_pdf(namespace, name)
        Path(namespace, f"{name}.pdf").write_bytes(base64.b64decode(answer.pdf))

    # The pool takes each download as soon as the listings before it have arrived.
    for _ in pool.map(download, _listed(invoices, namespaces, pool)):
        pass


def _listed(
    invoices: Any, namespaces: Sequence[str], pool: ThreadPoolExecutor
) -> Iterator[tuple[str, str]]:
    answers = pool.map(lambda name: invoices.list_invoices(name, limit=_MAX_INVOICES), namespaces)
    for namespace, answer in zip(namespaces, answers, strict=True):
        yield from ((namespace, invoice.name) for invoice in answer.invoices or ())


def main(threads: int) -> None:
    """Archive the namespaces."""
    from f5xc_py_substrate import Client  # not installed on every machine that runs the bench

    invoices = Client(tenant_url=os.environ["URL"], token=os.environ["TOKEN"]).invoice
    namespaces = os.environ["NAMESPACES"].split()
    for namespace in namespaces:
        Path(namespace).mkdir()
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    with ThreadPoolExecutor(threads) as pool:
        _archive(invoices, namespaces, pool)


if __name__ == "__main__":
    main(int(sys.argv[1]))
