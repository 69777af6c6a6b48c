"""Checks the proxy that the environment names, before anything is sent to it.

``requests`` reports an invalid value with a different exception for each kind of mistake, or
mistakes a part of a password for the host name.
"""

import importlib.util
import os
import re
import sys
from typing import Final

from invoicefs.errors import UserError

_VARIABLES: Final = ("https_proxy", "http_proxy", "all_proxy")
_EXAMPLE: Final = "http://proxy.example.com:3128"
_SOCKS: Final = frozenset({"socks4", "socks4a", "socks5", "socks5h"})
_PROXY: Final = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?"
    r"(?:[^@/?#\s\[\]\x00-\x1f\x7f]*@)?"  # user and password, percent-encoded
    r"(?P<host>\[[0-9a-f:.]+\]|[\w.-]+)"
    r"(?::(?P<port>\d{1,5}))?/?",
    re.IGNORECASE,
)
_MAX_PORT: Final = 65_535


def check_proxy(proxy: str) -> None:
    """Raise `UserError` unless this is the URL of a proxy that can be used."""
    match = _PROXY.fullmatch(proxy)
    scheme = (match["scheme"] or "http").lower() if match else ""
    if (
        match is None
        or scheme not in {"http", "https", *_SOCKS}
        or not 0 < int(match["port"] or 1) <= _MAX_PORT
    ):
        # The value itself is not shown, because it may contain a password.
        raise UserError(
            f"{_variable_of(proxy)} is not the URL of a proxy: write it like {_EXAMPLE} or "
            "socks5h://proxy.example.com:1080, with special characters of a user name or password "
            "percent-encoded, like %23 for #."
        )
    if scheme in _SOCKS and importlib.util.find_spec("socks") is None:
        raise UserError(
            f"The SOCKS proxy of {_variable_of(proxy)} needs another package: "
            f"{sys.executable} -m pip install pysocks, or apt install python3-socks."
        )


def _variable_of(proxy: str) -> str:
    """Return the name of the environment variable that has this value, or a description."""
    found = (
        name
        for name, value in os.environ.items()
        if name.lower() in _VARIABLES and value.strip() == proxy.strip()
    )
    return next(found, "The proxy from the environment")
