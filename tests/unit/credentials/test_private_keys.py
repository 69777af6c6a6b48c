"""The private key of a client certificate is never exposed, and never prompted for."""

import os
import pty
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.mount.support.programs import missing, run
from tests.support.certificates import EC, RSA, Authority, Identity

REPOSITORY = Path(__file__).parents[3]
PASSWORD = "hush-hush"

LOADS_P12 = """
import sys
from pathlib import Path
from invoicefs.credentials.certificates import load_p12
load_p12(Path(sys.argv[1]), sys.argv[2])
"""
LOADS_PEM_ON_A_TERMINAL = """
import os, sys
from pathlib import Path
from invoicefs.credentials.certificates import load_pem
from invoicefs.errors import UserError
os.open(sys.argv[1], os.O_RDWR)  # the first one that a session opens is its terminal
open("/dev/tty").close()
try:
    load_pem(Path(sys.argv[2]), Path(sys.argv[3]))
except UserError:
    sys.exit(3)
"""


def written_by(trace: str) -> bytes:
    """Return all bytes that a process wrote, from a trace with strings in hexadecimal."""
    found = re.findall(r'"([\\x0-9a-f]*)"', trace)
    return b"\n".join(bytes.fromhex(text.replace("\\x", "")) for text in found)


def forms_of(identity: Identity) -> list[bytes]:
    """The forms of a private key that must not appear: the bare number, DER, and lines of PEM."""
    private = load_pem_private_key(identity.key.read_bytes(), None)
    if isinstance(private, EllipticCurvePrivateKey):
        number = private.private_numbers().private_value
    else:
        assert isinstance(private, RSAPrivateKey)
        number = private.private_numbers().d
    forms = [number.to_bytes((number.bit_length() + 7) // 8)]
    for form in ([], ["-traditional"]):
        forms.append(identity.key_as(*form, "-outform", "DER").read_bytes())
        lines = identity.key_as(*form).read_bytes().splitlines()
        forms += [line for line in lines if len(line) == 64]
    return forms


@pytest.mark.promise("The private key of a P12 bundle is never on disk unencrypted.")
@pytest.mark.parametrize("options", [[], ["-legacy"]], ids=["modern", "legacy"])
@pytest.mark.parametrize("key", [EC, RSA], ids=["EC", "RSA"])
def test_the_key_of_a_bundle_is_never_written_unencrypted(
    authority: Authority, tmp_path: Path, key: str, options: list[str]
) -> None:
    if run("strace", "-o", "/dev/null", "true").code:
        missing("strace may not trace")
    identity = authority.issue("somebody", key=key)
    bundle = identity.p12(PASSWORD, *options)
    trace, temporary = tmp_path / "trace", tmp_path / "temporary"
    temporary.mkdir()

    ended = run(
        *("strace", "-f", "-y", "-xx", "-s", "100000", "-o", trace),
        *("-e", "trace=write,pwrite64,writev,sendto,open,openat,creat,mkdir,mkdirat"),
        *(sys.executable, "-B", "-c", LOADS_P12, bundle, PASSWORD),
        env={"TMPDIR": str(temporary)},
        cwd=REPOSITORY,
    )

    assert (ended.code, ended.err) == (0, "")
    traced = trace.read_text()
    written = written_by(traced)
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in written, "the trace misses what is written"
    for secret in (*forms_of(identity), PASSWORD.encode()):
        assert secret not in written
    assert "O_CREAT" not in traced
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("form", [[], ["-traditional"]], ids=["PKCS8", "traditional"])
def test_openssl_never_prompts_for_a_password(client: Identity, form: list[str]) -> None:
    key = client.key_as("-aes256", "-passout", f"pass:{PASSWORD}", *form)
    ours, theirs = (os.fdopen(end, "r+b", 0) for end in pty.openpty())
    with closing(ours), closing(theirs):
        ended = subprocess.run(
            [
                *(sys.executable, "-c", LOADS_PEM_ON_A_TERMINAL),
                *(os.ttyname(theirs.fileno()), client.certificate, key),
            ],
            cwd=REPOSITORY,
            start_new_session=True,
            timeout=20,  # a prompt would wait for an answer
        )
        os.set_blocking(ours.fileno(), False)

        assert ended.returncode == 3
        assert not ours.read(100)
