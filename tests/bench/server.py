"""The API and the plain files, as a program: the process that measures must not serve them.

    python -m tests.bench.server LATENCY_S

Prints its `Addresses`, then executes each line of stdin and prints one line in response:

- ``forget``: reset the number of requests; prints the same word.
- ``count``: prints the number of requests of both servers together.

It exits at the end of stdin.
"""

import json
import sys
from dataclasses import asdict, dataclass

from invoicefs.sandbox import Sandbox
from tests.bench.plain_files import PlainFiles
from tests.bench.tenant import bench_tenant


@dataclass(frozen=True)
class Addresses:
    """The URLs of the servers, without trailing slashes, and the token of the API."""

    api_url: str
    files_url: str
    token: str


def _execute(word: str, sandbox: Sandbox, files: PlainFiles) -> str:
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
            print(_execute(line.strip(), sandbox, files), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]))
