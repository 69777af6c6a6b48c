"""Invoices and listings: their times, inodes, versions and order."""

import hashlib
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from invoicefs import model, names
from invoicefs.clock import NS_PER_S
from invoicefs.dates import parse_time_ns
from invoicefs.model import (
    ROOT_INODE,
    Content,
    Invoice,
    Listing,
    Order,
    Record,
    namespace_inode,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

REPOSITORY = Path(__file__).parents[2]
LAST_S = 15_032_385_535  # what ext4 can hold
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_BITS_SHIFT = 48
AUGUST = Invoice(
    "system",
    "invoice-acme-2026-08",
    active=False,
    status="paid",
    amount="129900",
    currency="USD",
    period_start="2026-08-01T00:00:00Z",
    period_end="2026-08-31T23:59:59.999999999Z",
)

texts = st.text(st.characters(), max_size=8)
moments = st.datetimes(
    timezones=st.integers(-23 * 60 - 59, 23 * 60 + 59).map(
        lambda minutes: timezone(timedelta(minutes=minutes))
    ),
)
rfc3339_like = st.from_regex(
    r"\d{1,5}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{0,12})?([Zz]|[+-]\d\d:\d\d)?", fullmatch=True
)
times = st.one_of(texts, rfc3339_like, moments.map(datetime.isoformat))
invoices = st.builds(
    Invoice,
    namespace=texts,
    name=texts,
    active=st.booleans(),
    status=texts,
    amount=texts,
    currency=texts,
    period_start=times,
    period_end=times,
)
namesakes = st.builds(
    replace, invoices, namespace=st.just("system"), name=st.sampled_from(["a", "b"])
)


def starting(day: str, name: str = "a") -> Invoice:
    return Invoice("system", name, period_start=f"{day}T00:00:00Z")


# Times


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00.5Z", 500_000_000),
        ("1970-01-01T00:00:00.000001Z", 1_000),
        ("1970-01-01T00:00:00.1234567891Z", 123_456_789),
        ("1970-01-01T00:00:00-00:00", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01 00:00:00Z", 0),
        ("2446-05-10T22:38:55.999999999Z", LAST_S * NS_PER_S + 999_999_999),
    ],
)
def test_a_time_is_parsed_to_the_nanosecond(text: str, ns: int) -> None:
    assert parse_time_ns(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-08-31",
        "2026-08-31T23:59Z",
        "2026-08-31T23:59:59",  # without a zone it could be any of 26 hours
        "2026-08-31T23:59:59.Z",
        "2026-08-31T23:59:59,5Z",
        "2026-08-31T23:59:59+0200",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-08-31T24:00:00Z",
        "2026-08-31T25:00:00Z",
        "2026-08-31T23:60:00Z",
        "2016-12-31T23:59:60Z",  # a leap second, which POSIX time does not have
        "2026-08-31T23:59:59+24:00",
        "20260831T235959Z",
        "1969-12-31T23:59:59.999999999Z",
        "2446-05-10T22:38:56Z",
        " 2026-08-31T23:59:59Z",
        "2026-08-31T23:59:59Z\n",
        "\ud800",
        "\u0662\u0660\u0662\u0666-08-31T23:59:59Z",
        "2026-08-31T23:59:59.\u0665Z",
    ],
)
def test_a_text_that_is_not_an_rfc3339_time_is_none(text: str) -> None:
    assert parse_time_ns(text) is None


@unhurried
@given(times)
def test_any_text_is_a_time_or_none(text: str) -> None:
    assert isinstance(parse_time_ns(text), int | None)


@unhurried
@given(moments, st.integers(0, NS_PER_S - 1))
@example(datetime.min.replace(tzinfo=timezone(timedelta(hours=23))), 0)
@example(datetime.max.replace(tzinfo=timezone(-timedelta(hours=23))), NS_PER_S - 1)
def test_any_time_in_any_zone_is_parsed_back(moment: datetime, fraction_ns: int) -> None:
    whole = moment.replace(microsecond=0)
    day_and_time, zone = whole.isoformat()[:19], whole.isoformat()[19:]

    ns = parse_time_ns(f"{day_and_time}.{fraction_ns:09}{zone}")

    seconds = (whole - EPOCH) // timedelta(seconds=1)
    can_be_kept = 0 <= seconds <= LAST_S
    assert ns == (seconds * NS_PER_S + fraction_ns if can_be_kept else None)


# Inodes


@unhurried
@given(invoices)
def test_an_inode_fits_64_bits_and_is_neither_0_nor_1(invoice: Invoice) -> None:
    assert ROOT_INODE < invoice.inode < 2**64


@unhurried
@given(texts)
def test_the_inode_of_a_namespace_is_below_those_of_all_periods(namespace: str) -> None:
    assert ROOT_INODE < namespace_inode(namespace) < 2**DAY_BITS_SHIFT


class DigestOfZeros:
    """A SHA-256 digest that some unknown name has."""

    def __init__(self, *_: object) -> None: ...

    def digest(self) -> bytes:
        return bytes(32)


def test_a_hash_of_zero_does_not_make_an_inode_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashlib, "sha256", DigestOfZeros)

    assert Invoice("system", "a").inode > ROOT_INODE
    assert namespace_inode("system") > ROOT_INODE


@pytest.mark.parametrize(
    ("period_start", "days"),
    [
        ("1970-01-02T00:00:00Z", 1),
        ("2026-08-01T00:00:00Z", 20_666),
        ("2026-08-01T00:00:00+02:00", 20_665),
        ("1970-01-01T00:00:00Z", 0),
        ("2400-01-01T00:00:00Z", 2**16 - 1),
    ],
)
def test_the_high_bits_of_an_inode_are_the_day_of_the_period(period_start: str, days: int) -> None:
    assert replace(AUGUST, period_start=period_start).inode >> DAY_BITS_SHIFT == days


@pytest.mark.parametrize("period_start", ["", "nonsense"])
def test_without_a_start_the_inode_has_the_day_of_the_end(period_start: str) -> None:
    invoice = replace(AUGUST, period_start=period_start, period_end="1970-01-03T00:00:00Z")

    assert invoice.inode >> DAY_BITS_SHIFT == 2


def test_without_a_period_the_inode_is_below_all_others() -> None:
    assert replace(AUGUST, period_start="", period_end="").inode < starting("1970-01-02").inode


def test_an_invoice_keeps_its_inode_when_it_changes() -> None:
    changed = replace(
        AUGUST,
        active=True,
        status="issued",
        amount="1",
        currency="EUR",
        period_end="2026-09-30T00:00:00Z",
    )

    assert changed.inode == AUGUST.inode


@pytest.mark.parametrize("other", [replace(AUGUST, name="b"), replace(AUGUST, namespace="shared")])
def test_invoices_of_one_day_have_different_inodes(other: Invoice) -> None:
    assert other.inode != AUGUST.inode
    assert other.inode >> DAY_BITS_SHIFT == AUGUST.inode >> DAY_BITS_SHIFT


def test_inodes_and_versions_are_the_same_in_every_process() -> None:
    program = (
        "from invoicefs.model import Invoice, namespace_inode;"
        f"invoice = {AUGUST!r};"
        "print(invoice.inode, invoice.version, namespace_inode('system'))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
        text=True,
    )

    here = (AUGUST.inode, AUGUST.version, namespace_inode("system"))
    assert elsewhere.stdout.split() == list(map(str, here))


def test_inodes_and_versions_are_the_same_in_every_release() -> None:
    """Backup programs know a file by its inode, and records know their content by its version."""
    odd = replace(
        AUGUST,
        name='a"\\/\u00e9\U0001f600\ud800\n',
        active=True,
        status="paid",
        amount="1",
        period_start="2026-08-01T00:00:00Z",
        period_end="2026-08-31T00:00:00Z",
    )

    assert (odd.inode, odd.version) == (5817140797188640130, "6d1bde2aaf93f95b")
    assert namespace_inode("system") == 58979617662888


# Versions

VERSION_FIELDS = ("status", "active", "amount", "period_start", "period_end")


@pytest.mark.parametrize(
    "change",
    [
        {"status": "issued"},
        {"active": True},
        {"amount": "129901"},
        {"amount": ""},
        {"period_start": "2026-08-02T00:00:00Z"},
        {"period_end": ""},
    ],
)
def test_the_version_changes_with_every_field_that_affects_the_content(
    change: dict[str, Any],
) -> None:
    assert replace(AUGUST, **change).version != AUGUST.version


@pytest.mark.parametrize("change", [{"currency": "EUR"}, {"name": "b"}, {"namespace": "shared"}])
def test_the_version_does_not_change_with_other_fields(change: dict[str, Any]) -> None:
    assert replace(AUGUST, **change).version == AUGUST.version


@unhurried
@given(invoices, invoices)
@example(replace(AUGUST, amount="1", status=""), replace(AUGUST, amount="", status="1"))
@example(
    replace(AUGUST, amount="1\n", period_start=""), replace(AUGUST, amount="1", period_start="\n")
)
def test_versions_are_equal_if_and_only_if_those_fields_are(one: Invoice, other: Invoice) -> None:
    are_equal = all(getattr(one, field) == getattr(other, field) for field in VERSION_FIELDS)

    assert (one.version == other.version) is are_equal


# The mtime of the first content


def test_the_mtime_of_a_final_invoice_is_the_end_of_its_period() -> None:
    assert AUGUST.natural_mtime_ns == 1_788_220_799_999_999_999


def test_the_mtime_of_a_draft_invoice_is_the_start_of_its_period() -> None:
    assert replace(AUGUST, active=True).natural_mtime_ns == 1_785_542_400 * NS_PER_S


@pytest.mark.parametrize("period", ["", "soon"])
@pytest.mark.parametrize(
    ("is_active", "field"), [(False, "period_end"), (True, "period_start")], ids=["final", "active"]
)
def test_without_that_time_there_is_no_natural_mtime(
    is_active: bool, field: str, period: str
) -> None:
    without: dict[str, Any] = {"active": is_active, field: period}

    assert replace(AUGUST, **without).natural_mtime_ns is None


# Listings


def names_of(listing: Listing) -> list[str]:
    return [invoice.name for invoice in listing.invoices]


@unhurried
@given(st.lists(invoices, max_size=5), st.randoms(use_true_random=False))
def test_a_listing_is_sorted_by_inode_whatever_the_order_of_the_response(
    found: list[Invoice], random: Any
) -> None:
    found = list({invoice.name: invoice for invoice in found}.values())
    shuffled = random.sample(found, len(found))

    listing = Listing.of(shuffled)

    assert listing == Listing.of(found)
    inodes = [invoice.inode for invoice in listing.invoices]
    assert inodes == sorted(inodes)
    assert set(listing.invoices) == set(found)


@unhurried
@given(st.lists(namesakes, max_size=6), st.randoms())
def test_a_listing_does_not_depend_on_order_and_duplicates(
    found: list[Invoice], shuffled: Random
) -> None:
    again = found * 2
    shuffled.shuffle(again)

    assert Listing.of(again) == Listing.of(found)
    assert len(Listing.of(found).invoices) == len({invoice.name for invoice in found})


@unhurried
@given(st.lists(namesakes, max_size=6))
def test_an_invoice_is_a_draft_if_any_of_its_duplicates_is(found: list[Invoice]) -> None:
    drafts = {invoice.name for invoice in found if invoice.active}

    listing = Listing.of(found)
    assert {invoice.name for invoice in listing.invoices if invoice.active} == drafts


def test_of_duplicates_with_two_currencies_always_the_same_one_counts() -> None:
    other = replace(AUGUST, currency="EUR")

    assert Listing.of([AUGUST, other]) == Listing.of([other, AUGUST])


orders = pytest.mark.parametrize("order", Order)


@orders
@unhurried
@given(st.lists(invoices, max_size=5))
def test_every_invoice_has_its_place_in_either_order(order: Order, found: list[Invoice]) -> None:
    listing = Listing.of(found)
    sequence = listing.in_order(order)

    assert set(sequence) == set(listing.invoices)
    assert [listing.position(invoice, order) for invoice in sequence] == [*range(len(sequence))]


@orders
@pytest.mark.parametrize("day", ["2026-01-01", "2026-02-02", "2026-09-01"])
@pytest.mark.parametrize("name", ["a", "d", "z"])
def test_an_unlisted_invoice_has_no_place(order: Order, day: str, name: str) -> None:
    listing = Listing.of([starting("2026-02-01", "b"), starting("2026-03-01", "y")])

    assert listing.position(starting(day, name), order) is None


@orders
def test_an_invoice_keeps_its_place_when_it_changes(order: Order) -> None:
    listing = Listing.of([AUGUST, starting("2026-02-01")])
    changed = replace(AUGUST, active=True, amount="1")

    assert listing.position(changed, order) == listing.position(AUGUST, order) is not None


def test_the_order_by_name_is_that_of_the_file_names() -> None:
    listing = Listing.of([replace(AUGUST, name=name) for name in ("a", "a-b", "a/b", "a:b")])

    shown = [names.file_name(invoice.name) for invoice in listing.in_order(Order.NAME)]
    assert shown == ["a%2Fb.pdf", "a-b.pdf", "a.pdf", "a:b.pdf"]


@orders
def test_invoices_with_one_inode_have_different_places(
    monkeypatch: pytest.MonkeyPatch, order: Order
) -> None:
    monkeypatch.setattr(model, "_inode_hash", lambda *_: 2)
    listing = Listing.of([replace(AUGUST, name=name) for name in ("b", "a", "c")])

    assert names_of(listing) == ["a", "b", "c"]
    assert [listing.position(invoice, order) for invoice in listing.invoices] == [0, 1, 2]


@unhurried
@given(st.lists(invoices, max_size=5))
def test_every_listed_invoice_is_found_by_its_file_name(found: list[Invoice]) -> None:
    listing = Listing.of(found)

    assert set(listing.by_file_name.values()) == set(listing.invoices)
    assert all(
        listing.by_file_name[names.file_name(invoice.name)] == invoice
        for invoice in listing.invoices
    )


def test_a_listing_is_immutable() -> None:
    listing = Listing.of([AUGUST])

    with pytest.raises(FrozenInstanceError):
        listing.invoices = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        listing.by_file_name["b.pdf"] = AUGUST  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        AUGUST.amount = "1"  # type: ignore[misc]


FINAL = starting("2026-01-01", "final")
ACTIVE = replace(starting("2026-02-01", "active"), active=True)


@pytest.mark.parametrize(
    "changed",
    [
        replace(FINAL, amount="2"),
        replace(FINAL, active=True),
        replace(FINAL, period_start="2027-01-01T00:00:00Z"),
    ],
)
def test_the_newer_version_of_an_invoice_counts(changed: Invoice) -> None:
    listing = Listing.of([FINAL, ACTIVE]).succeeded_by(Listing.of([changed]))

    assert listing.invoices == (changed,)


@unhurried
@given(st.lists(st.lists(invoices, max_size=3), max_size=3))
def test_no_run_of_listings_ever_loses_a_final_invoice(runs: list[list[Invoice]]) -> None:
    listing = Listing()
    for run in runs:
        final = {invoice.name for invoice in listing.invoices if not invoice.active}
        newer = Listing.of(run)

        listing = listing.succeeded_by(newer)

        assert final | set(names_of(newer)) == set(names_of(listing))
        assert set(newer.invoices) <= set(listing.invoices)
        assert listing == Listing.of(listing.invoices)


@pytest.mark.parametrize(
    ("statuses", "shown"),
    [
        (frozenset[str](), ["pending", "issued", "paid"]),
        (frozenset({"paid"}), ["paid"]),
        (frozenset({"paid", "pending"}), ["pending", "paid"]),
        (frozenset({"refunded"}), []),
    ],
)
def test_only_invoices_with_the_given_statuses_are_shown(
    statuses: frozenset[str], shown: list[str]
) -> None:
    days = {"pending": "2026-01-01", "issued": "2026-02-01", "paid": "2026-03-01"}
    listing = Listing.of(
        [replace(starting(day, status), status=status) for status, day in days.items()]
    )

    part = listing.only(statuses)

    assert names_of(part) == shown
    assert list(part.by_file_name) == [f"{name}.pdf" for name in shown]


# Keys and contents


@unhurried
@given(invoices, invoices)
@example(Invoice("a", "b/c"), Invoice("a/b", "c"))
def test_keys_are_equal_if_and_only_if_namespace_and_name_are(one: Invoice, other: Invoice) -> None:
    assume(names.directory_name(one.namespace) and names.directory_name(other.namespace))

    assert (one.key == other.key) is ((one.namespace, one.name) == (other.namespace, other.name))


def test_the_repr_of_content_does_not_contain_the_pdf() -> None:
    assert "secret" not in repr(Content(Record(0), b"%PDF-secret"))
