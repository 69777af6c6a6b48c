"""Web servers that serve a mount, each with its example.

They run as `MEMBER`. Their main configuration does what that of Debian does, where it matters.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.mount.support.mounts import Mount
from tests.mount.support.programs import eventually
from tests.serving.examples import install
from tests.serving.folder import ServedFolder
from tests.serving.running_server import MEMBER, PASSWORD, serving
from tests.serving.web_client import WebClient

ACCOUNT = "somebody"

_PASSWORD_HASH = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"  # of PASSWORD
_APACHE_MODULES = (
    *("mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic"),
    *("allowmethods", "autoindex", "dav", "dav_fs", "dir", "headers", "mime"),
)

WebServer = Callable[[ServedFolder, Mount, int], AbstractContextManager[WebClient]]
"""Runs a server on a port; the client is one of its users."""


@contextmanager
def nginx(served: ServedFolder, mount: Mount, port: int) -> Iterator[WebClient]:
    """Run nginx, in whose main configuration sendfile is enabled."""
    folder = served.new_folder("nginx")
    changes = {
        "/srv/invoices;": f"{mount.path};",
        "listen 127.0.0.1:8080": f"listen 127.0.0.1:{port}",
        "/etc/nginx/invoices.htpasswd": str(_password_file(folder)),
    }
    example = install("nginx.conf", folder, changes)
    temporary = "".join(
        f"{module}_temp_path {folder}/{module};"
        for module in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "main.conf"
    config.write_text(
        f"daemon off; worker_processes 2; pid {folder}/pid; events {{}}"
        f"http {{ {temporary} access_log off; sendfile on; tcp_nopush on;"
        f"types {{ application/pdf pdf; }} include {example}; }}"
    )
    program = ("nginx", "-p", folder, "-c", config, "-e", folder / "log")
    with serving(*MEMBER.prefix, *program, port=port, log=folder / "log"):
        yield WebClient(port, ACCOUNT, PASSWORD)


@contextmanager
def caddy(served: ServedFolder, mount: Mount, port: int) -> Iterator[WebClient]:
    """Run Caddy, which makes its own certificate."""
    folder = served.new_folder("caddy")
    changes = {
        "/srv/invoices": str(mount.path),
        "localhost:8443": f"localhost:{port}",
        "somebody HASH": f"{ACCOUNT} {_PASSWORD_HASH}",
    }
    example = install("Caddyfile", folder, changes)
    config = folder / "main"
    log = folder / "log"
    config.write_text(
        f"{{\nadmin off\nskip_install_trust\nauto_https disable_redirects\n"
        f"log {{\noutput file {log}\n}}\n}}\nimport {example}\n"
    )
    home = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    program = ("caddy", "run", "--adapter=caddyfile", f"--config={config}")
    with serving(*MEMBER.prefix, *program, port=port, log=log, env=home):
        authority = folder / "caddy/pki/authorities/local/root.crt"
        client = WebClient(port, ACCOUNT, PASSWORD, authority)
        eventually(client.is_certified)  # Caddy listens before it has issued its certificate
        yield client


@contextmanager
def apache(served: ServedFolder, mount: Mount, port: int) -> Iterator[WebClient]:
    """Run Apache."""
    folder = served.new_folder("apache")
    changes = {
        "/srv/invoices": str(mount.path),
        "127.0.0.1:8081": f"127.0.0.1:{port}",
        "/etc/apache2/invoices.htpasswd": str(_password_file(folder)),
    }
    example = install("apache.conf", folder, changes)
    log = folder / "log"
    modules = (
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
        for name in _APACHE_MODULES
    )
    types = folder / "types"
    types.write_text("application/pdf pdf\n")
    config = folder / "main.conf"
    config.write_text(
        "\n".join(
            (
                *modules,
                f"ServerRoot {folder}",
                f"DefaultRuntimeDir {folder}",
                f"PidFile {folder}/pid",
                f"DavLockDB {folder}/locks",
                f"TypesConfig {types}",
                f"ErrorLog {log}",
                "ServerName localhost",
                "<Directory />\nRequire all denied\n</Directory>",
                f"Include {example}",
            )
        )
    )
    program = ("apache2", "-D", "FOREGROUND", "-f", config)
    with serving(*MEMBER.prefix, *program, port=port, log=log):
        yield WebClient(port, ACCOUNT, PASSWORD)


def _password_file(folder: Path) -> Path:
    path = folder / "passwords"
    path.write_text(f"{ACCOUNT}:{_PASSWORD_HASH}\n")
    return path
