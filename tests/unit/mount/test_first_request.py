"""The first request is made before there is a library, which then gets its outcome."""

import threading
from contextlib import nullcontext

import pytest

from invoicefs.clock import Deadline
from invoicefs.errors import Denied, InvoicefsError, Unavailable
from invoicefs.library.access import NAMESPACES
from invoicefs.mount.first_request import ApiWithFirstRequest
from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import FakeTenant, TenantOfMount

DEADLINE = Deadline.after(30, FakeClock())


class Connection(TenantOfMount):
    """A tenant as a mount uses it, with connections that can be closed."""

    def close(self) -> None:
        """Close the connections."""


class Notes:
    """What a credential was allowed, each with the thread that noted it."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bool, threading.Thread]] = []

    def note(self, credential: str, kind: str, namespace: str, *, is_allowed: bool) -> None:
        assert (credential, namespace) == ("token", "")
        self.taken.append((kind, is_allowed, threading.current_thread()))


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant()
    tenant.open_namespace("system")
    return tenant


def api_of(tenant: FakeTenant) -> ApiWithFirstRequest:
    """Return an API whose first request is in flight, or has ended."""
    return ApiWithFirstRequest(lambda note: Connection(tenant, note), DEADLINE)


def test_the_first_request_is_made_before_it_is_asked_for(tenant: FakeTenant) -> None:
    with tenant.blocking("namespaces") as gate:
        api_of(tenant)
        gate.await_request()


def test_the_first_list_is_that_of_the_first_request_and_later_ones_are_new(
    tenant: FakeTenant,
) -> None:
    api, notes = api_of(tenant), Notes()
    api.note_access_with(notes.note)

    assert api.namespaces(DEADLINE).names == ("system",)
    assert tenant.take_requests() == ["namespaces"]
    tenant.open_namespace("other")
    assert api.namespaces(DEADLINE).names == ("system", "other")
    assert tenant.take_requests() == ["namespaces"]


@pytest.mark.parametrize("error", [Denied("no"), Unavailable("busy")], ids=["403", "503"])
def test_a_failure_of_the_first_request_is_raised_once_and_a_retry_makes_a_new_one(
    tenant: FakeTenant, error: InvoicefsError
) -> None:
    tenant.fail("namespaces", error)
    api, notes = api_of(tenant), Notes()
    api.note_access_with(notes.note)

    with pytest.raises(type(error)):
        api.namespaces(DEADLINE)
    tenant.fix()
    assert api.namespaces(DEADLINE).names == ("system",)


@pytest.mark.parametrize("is_allowed", [True, False], ids=["allowed", "refused"])
def test_what_the_first_request_was_allowed_is_noted_by_the_thread_that_gets_its_outcome(
    tenant: FakeTenant, is_allowed: bool
) -> None:
    if not is_allowed:
        tenant.fail("namespaces", Denied("no"))
    notes = Notes()
    with tenant.blocking("namespaces"):
        api = api_of(tenant)
        api.note_access_with(notes.note)
    for _ in range(2):
        with nullcontext() if is_allowed else pytest.raises(Denied):
            api.namespaces(DEADLINE)

    assert notes.taken == 2 * [(NAMESPACES, is_allowed, threading.current_thread())]


def test_lists_after_the_first_one_bypass_http_caches_if_asked_to(tenant: FakeTenant) -> None:
    api, notes = api_of(tenant), Notes()
    api.note_access_with(notes.note)

    api.namespaces(DEADLINE)
    assert tenant.bypassed_caches == {"namespaces": False}
    api.namespaces(DEADLINE, bypass_caches=True)
    assert tenant.bypassed_caches == {"namespaces": True}
