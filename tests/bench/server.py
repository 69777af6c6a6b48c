"""The API and the plain files, as a program: who measures must not be who serves.

    python -m tests.bench.server LATENCY_S

Prints its `Addresses`, then obeys lines on stdin and answers each with a line:

- ``forget``: begin to count anew. Answered with the same word.
- ``count``: answered with the number of requests, of both servers together.

At the end of stdin it ends.
"""

import json
import sys
from dataclasses import asdict, dataclass

from invoicefs.sandbox import Sandbox
from tests.bench.plain_files import PlainFiles
from tests.bench.tenant import bench_tenant


@dataclass(frozen=True)
class Addresses:
    """Where to find the invoices, without trailing slashes."""

    api_url: str
    files_url: str
    token: str


def _obey(word: str, sandbox: Sandbox, files: PlainFiles) -> str:
    match word:
        case "forget":
            sandbox.forget_calls()
            files.forget_requests()
            return word
        case "count":
            return str(sandbox.count() + files.requests)
        case _:
            raise ValueError(word)


def main(latency_s: float) -> None:
    """Serve until stdin ends."""
    tenant = bench_tenant()
    with Sandbox(tenant, latency_s=latency_s) as sandbox, PlainFiles(tenant, latency_s) as files:
        addresses = Addresses(sandbox.url, files.url, sandbox.token)
        print(json.dumps(asdict(addresses)), flush=True)  # noqa: T201
        for line in iter(sys.stdin.readline, ""):
            print(_obey(line.strip(), sandbox, files), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]))
