"""What counts as a problem of a mount, and what does not."""

import pytest

from invoicefs.errors import (
    Busy,
    Denied,
    InvoicefsError,
    NotFound,
    RateLimited,
    ServerFault,
    Unauthenticated,
    Unavailable,
    Unreachable,
    UntrustedServer,
    UnusableResponse,
)
from invoicefs.library.results import ListingState
from invoicefs.mount.activity import FailedRequest, RequestCounters
from invoicefs.mount.health import Problem, problems

WELL = ListingState((), {}, None)


def found(
    failed: dict[str, InvoicefsError], listings: ListingState = WELL, cache: str | None = None
) -> list[Problem]:
    requests = {kind: FailedRequest(type(error), str(error)) for kind, error in failed.items()}
    return list(problems(requests, listings, cache))


def test_a_mount_without_failures_has_no_problem() -> None:
    assert found({}) == []


@pytest.mark.parametrize("error", [NotFound, RateLimited, Busy, Denied])
@pytest.mark.parametrize("kind", ["pdf", "invoices"])
def test_a_refusal_of_one_request_is_no_problem(kind: str, error: type[InvoicefsError]) -> None:
    assert found({kind: error("no")}) == []


@pytest.mark.parametrize(
    "error", [Unreachable, Unavailable, ServerFault, UntrustedServer, UnusableResponse]
)
def test_a_request_without_a_usable_response_is_a_problem(error: type[InvoicefsError]) -> None:
    assert found({"pdf": error("out of order")}) == [
        Problem("requests", "the last request for a PDF failed: out of order")
    ]


def test_a_refused_credential_is_one_problem() -> None:
    refused = Unauthenticated("the server answered 401")
    listings = ListingState((), {"system": Denied("403")}, Denied("403"))

    assert found({"pdf": refused, "invoices": refused}, listings) == [
        Problem("credential", "the API refuses the credential: the server answered 401")
    ]


def test_a_listing_that_is_forbidden_now_is_a_problem() -> None:
    listings = ListingState((), {"a": RateLimited("429"), "b": Denied("403")}, None)

    assert found({}, listings) == [Problem("credential", "b may no longer be listed: 403")]
    assert found({}, ListingState((), {}, Denied("403"))) == [
        Problem("credential", "the namespaces may no longer be listed: 403")
    ]


def test_a_listing_whose_401_is_older_than_the_last_request_is_no_problem() -> None:
    """The credential has been renewed since."""
    assert found({}, ListingState((), {"a": Unauthenticated("401")}, None)) == []


def test_a_listing_that_failed_before_another_one_did_not_is_a_problem() -> None:
    listings = ListingState((), {"a": ServerFault("500"), "b": ServerFault("500")}, None)

    assert found({}, listings) == [Problem("requests", "the last listing of a failed: 500")]


def test_an_unusable_cache_is_a_problem() -> None:
    assert found({}, cache="the disk is full") == [
        Problem("cache", "the cache cannot be used: the disk is full")
    ]


def test_the_last_request_of_each_kind_counts() -> None:
    counters = RequestCounters()
    counters.add("pdf", "500", ServerFault("500"))
    counters.add("invoices", "no answer", Unreachable("refused"))
    counters.add("invoices", "404", NotFound("404"))
    assert set(counters.failed()) == {"pdf", "invoices"}
    assert counters.failed()["invoices"].error is NotFound

    counters.add("pdf", "200")

    assert set(counters.failed()) == {"invoices"}


def test_a_successful_request_of_any_kind_shows_that_the_credential_is_accepted() -> None:
    counters = RequestCounters()
    counters.add("pdf", "401", Unauthenticated("401"))
    counters.add("invoices", "200")

    assert counters.failed() == {}
