"""Programs that archive invoices without a filesystem: scripts that people really write."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench import client_threads
from tests.bench.limits import PARALLEL
from tests.bench.server import Addresses
from tests.mount.support.programs import Argument


@dataclass(frozen=True)
class Pipeline:
    """A program that archives namespaces into the working folder, as NAMESPACE/NAME.pdf.

    It prints a line when it is ready, and begins when it has read one, so that its start is not
    measured: that of a mount is not, either. It needs the Python package `module`, if any.
    """

    name: str
    argv: Sequence[Argument]
    program: str = ""
    module: str = ""

    def environment(self, addresses: Addresses, namespaces: Sequence[str]) -> Mapping[str, str]:
        """Return the variables of the program."""
        bundle = addresses.ca_bundle
        trusted = {"CURL_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle} if bundle else {}
        return {
            "URL": addresses.api_url,
            "TOKEN": addresses.token,
            "NAMESPACES": " ".join(namespaces),
            **trusted,
        }


def _curl(processes: int) -> Sequence[Argument]:
    return ("bash", "-c", _SCRIPT.format(xargs=f"xargs -P{processes} -I{{}}"))


_SCRIPT = """
export WEB="$URL/api/web/namespaces" AUTHORIZATION="Authorization: APIToken $TOKEN"
mkdir -p $NAMESPACES
echo ready
read -r
printf '%s\\n' $NAMESPACES |
    {xargs} sh -c '
        curl -s -H "$AUTHORIZATION" "$WEB/$1/usage/invoices/custom_list?limit=100000" |
            jq -r ".invoices[].name | \\"$1/\\" + ."' sh {{}} |
    {xargs} sh -c '
        curl -s -H "$AUTHORIZATION" "$WEB/${{1%/*}}/usage/invoice_pdf?name=${{1##*/}}" |
            jq -r .pdf | base64 -d > "$1.pdf"' sh {{}}
"""
SEQUENTIAL = Pipeline("sequential curl", _curl(1), "curl")
XARGS = Pipeline(f"xargs -P{PARALLEL}", _curl(PARALLEL), "curl")
# As a file and not as a module: the working folder is that of the copy.
CLIENT = Pipeline(
    f"client, {PARALLEL} threads",
    (sys.executable, client_threads.__file__, str(PARALLEL)),
    module="f5xc_py_substrate",
)
