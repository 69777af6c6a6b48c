"""The API and the plain files, as a program: the process that measures must not serve them.

    python -m tests.bench.server LATENCY_S TENANT        (a key of `TENANTS`)

Prints its `Addresses`, then executes each line of stdin and prints one line in response:

- ``forget``: reset the number of requests; prints the same word.
- ``count``: prints the number of requests of both servers together.
- ``latency S``: set the latency of the requests that arrive later; prints the same line.

It exits at the end of stdin.
"""

import json
import sys
from dataclasses import asdict, dataclass

from invoicefs.sandbox import Sandbox
from tests.bench.plain_files import PlainFiles
from tests.bench.tenant import TENANTS


@dataclass(frozen=True)
class Addresses:
    """The URLs of the servers, without trailing slashes, and the token of the API."""

    api_url: str
    files_url: str
    token: str


def _execute(line: str, sandbox: Sandbox, files: PlainFiles) -> str:
    match line.split():
        case ["forget"]:
            sandbox.forget_calls()
            files.forget_requests()
            return line
        case ["count"]:
            return str(sandbox.count() + files.requests)
        case ["latency", latency_s]:
            sandbox.latency_s = files.latency_s = float(latency_s)
            return line
        case _:
            raise ValueError(line)


def main(latency_s: float, tenant_key: str) -> None:
    """Serve until stdin ends."""
    tenant = TENANTS[tenant_key]()
    with Sandbox(tenant, latency_s=latency_s) as sandbox, PlainFiles(tenant, latency_s) as files:
        addresses = Addresses(sandbox.url, files.url, sandbox.token)
        print(json.dumps(asdict(addresses)), flush=True)  # noqa: T201
        for line in iter(sys.stdin.readline, ""):
            print(_execute(line.strip(), sandbox, files), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
