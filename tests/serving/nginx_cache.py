"""The HTTP cache of the package: nginx with the example ``nginx-cache.conf``."""

import getpass
import grp
import http.client
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from invoicefs.sandbox import Sandbox
from invoicefs.sandbox.listener import reserve_port
from tests.serving.examples import EXAMPLES, install
from tests.serving.running_server import serving
from tests.support.certificates import Authority

TENANT_HOST = "tenant.example"

# Debian's own nginx.conf, in short: the workers run as the user of the test, who owns the folder.
_MAIN = """
user {user} {group};
worker_processes 2;
pid {logs}/pid;
daemon off;
include /etc/nginx/modules-enabled/*.conf;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {logs}/client_body;
    proxy_temp_path {logs}/proxy;
    fastcgi_temp_path {logs}/fastcgi;
    uwsgi_temp_path {logs}/uwsgi;
    scgi_temp_path {logs}/scgi;
    access_log {logs}/access.log;
    include {example};
}}
"""


@dataclass(frozen=True)
class HttpCache:
    """A running cache: what it serves, and the folders of its cache and its logs."""

    port: int
    authority: Path
    content: Path
    logs: Path

    @property
    def url(self) -> str:
        """The URL for the mounts."""
        return f"https://127.0.0.1:{self.port}"

    def status_of(self, target: str, headers: Mapping[str, str], body: bytes = b"") -> int:
        """Request something, as any client can; returns the status."""
        context = ssl.create_default_context(cafile=self.authority)
        with closing(http.client.HTTPSConnection("127.0.0.1", self.port, context=context)) as web:
            web.request("GET", target, body or None, dict(headers))
            return web.getresponse().status


@contextmanager
def http_cache(sandbox: Sandbox, folder: Path, authority: Authority) -> Iterator[HttpCache]:
    """Run the shipped cache in front of an API server whose certificate `authority` has issued."""
    server = authority.issue("cache", hosts=["IP:127.0.0.1"])
    content, logs = folder / "content", folder / "nginx"
    for new in (content, logs):
        new.mkdir(mode=0o700)
    with closing(reserve_port()) as reservation:
        port = reservation.getsockname()[1]
        changes = {
            "TENANT.console.ves.volterra.io:443": sandbox.url.removeprefix("https://"),
            "TENANT.console.ves.volterra.io": TENANT_HOST,
            "listen 8443": f"listen 127.0.0.1:{port}",
            "/etc/ssl/certs/cache.example.pem": str(server.certificate),
            "/etc/ssl/private/cache.example.key": str(server.key),
            "/etc/ssl/certs/ca-certificates.crt": str(authority.certificate),
            "/etc/nginx/nginx-cache.js": str(EXAMPLES / "nginx-cache.js"),
            "/var/cache/invoicefs-nginx": str(content / "cache"),
            "/var/log/nginx": str(logs),
        }
        main = content.with_name("nginx.conf")
        example = install("nginx-cache.conf", folder, changes)
        main.write_text(
            _MAIN.format(user=getpass.getuser(), group=_group(), logs=logs, example=example)
        )
        with serving(
            "nginx", "-c", main, "-e", logs / "error.log", port=port, log=logs / "error.log"
        ):
            yield HttpCache(port, authority.certificate, content, logs)


def _group() -> str:
    return grp.getgrgid(os.getegid()).gr_name
