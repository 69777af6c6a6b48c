"""The internals of urllib3 that are extended: these tests fail if they change."""

import inspect

import pytest
from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection
from urllib3.contrib.socks import SOCKSProxyManager

from invoicefs.api import connections


@pytest.mark.parametrize(
    "name",
    [name for name in vars(connections._Watched) if name not in {"idle", "end_exchange"}],
)
def test_every_method_that_a_connection_overrides_exists_in_urllib3(name: str) -> None:
    is_own = name.startswith("__") or name in {
        "_response",
        "_was_used",
        "_is_proxied",
        "_first_hop",
        "_connected",
        "_connect",
        "_static_attributes",
    }
    assert is_own or hasattr(HTTPConnection, name)


def test_a_connection_is_given_back_by_the_method_that_is_overridden() -> None:
    assert list(inspect.signature(HTTPConnectionPool._put_conn).parameters) == ["self", "conn"]


def test_pools_are_made_of_classes_that_can_be_replaced() -> None:
    manager = PoolManager()
    assert set(manager.pool_classes_by_scheme) == {"http", "https"}
    assert manager.pool_classes_by_scheme["http"] is HTTPConnectionPool
    assert HTTPConnectionPool.ConnectionCls is HTTPConnection


def test_a_socks_proxy_has_its_options_where_they_are_read() -> None:
    options = SOCKSProxyManager("socks5h://127.0.0.1:1").connection_pool_kw["_socks_options"]
    assert {"proxy_host", "proxy_port", "socks_version", "rdns", "username", "password"} <= set(
        options
    )
