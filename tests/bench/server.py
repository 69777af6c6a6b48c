"""The API and the plain files, as a program: the process that measures must not serve them.

    python -m tests.bench.server LATENCY_S TENANT [PEM]      (a key of `TENANTS`)

With PEM, the file of a certificate and its key, the API is served over HTTPS.

Prints its `Addresses`, then executes each line of stdin and prints one line in response:

- ``forget``: reset the number of requests; prints the same word.
- ``count``: prints the number of requests of both servers together.
- ``latency S``: set the latency of the requests that arrive later; prints the same line.

It exits at the end of stdin.
"""

import json
import ssl
import sys
from dataclasses import asdict, dataclass

from invoicefs.sandbox import Sandbox
from tests.bench.plain_files import PlainFiles
from tests.bench.tenant import TENANTS


@dataclass(frozen=True)
class Addresses:
    """The URLs of the servers, without trailing slashes, and the token of the API.

    `ca_bundle` is the path of the certificate of the authority that clients have to trust, if any.
    """

    api_url: str
    files_url: str
    token: str
    ca_bundle: str = ""


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


def _context(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def main(latency_s: float, tenant_key: str, pem: str | None) -> None:
    """Serve until stdin ends."""
    tenant = TENANTS[tenant_key]()
    tls = _context(pem) if pem else None
    with (
        Sandbox(tenant, latency_s=latency_s, tls=tls) as sandbox,
        PlainFiles(tenant, latency_s) as files,
    ):
        addresses = Addresses(sandbox.url, files.url, sandbox.token)
        print(json.dumps(asdict(addresses)), flush=True)  # noqa: T201
        for line in iter(sys.stdin.readline, ""):
            print(_execute(line.strip(), sandbox, files), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3] if sys.argv[3:] else None)
