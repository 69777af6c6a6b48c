"""The internals of urllib3 that are extended: these tests fail if they change."""

import inspect
from collections.abc import Callable

import pytest
from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection
from urllib3.contrib.socks import SOCKSProxyManager

from invoicefs.api import connections


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in vars(connections._Watched)
        if name not in {"idle", "take", "end_exchange", "become_idle"}
    ],
)
def test_every_method_that_a_connection_overrides_exists_in_urllib3(name: str) -> None:
    is_own = name.startswith("__") or name in {
        "_response",
        "_was_idle",
        "_is_proxied",
        "_first_hop",
        "_connected",
        "_connect",
        "_static_attributes",
    }
    assert is_own or hasattr(HTTPConnection, name)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (HTTPConnectionPool._get_conn, ["self", "timeout"]),
        (HTTPConnectionPool._put_conn, ["self", "conn"]),
        (HTTPConnectionPool._new_conn, ["self"]),
        (HTTPConnectionPool._prepare_proxy, ["self", "conn"]),
    ],
)
def test_connections_are_made_taken_and_given_back_by_methods_that_can_be_overridden(
    method: Callable[..., object], parameters: list[str]
) -> None:
    assert list(inspect.signature(method).parameters) == parameters


def test_a_pool_has_a_slot_for_each_connection() -> None:
    pool = HTTPConnectionPool("127.0.0.1", maxsize=3)
    assert pool.pool is not None
    assert (pool.pool.maxsize, pool.pool.qsize()) == (3, 3)


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
