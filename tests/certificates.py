"""Certificates for servers on the loopback interface, made by openssl."""

import ssl
import subprocess
from pathlib import Path


def make_certificate(file: Path, *names: str) -> ssl.SSLContext:
    """Write a self-signed certificate for names like ``IP:127.0.0.1``; how a server uses it.

    The file is what a client has to trust; the key lies beside it.
    """
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    subject = ["-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={','.join(names)}"]
    key = file.with_suffix(".pem")
    files = ["-keyout", str(key), "-out", str(file)]
    subprocess.run([*command.split(), *subject, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context
