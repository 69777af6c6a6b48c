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
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.000000002Z", 1_000_000_002),
        ("1970-01-01T00:00:00.5Z", 500_000_000),
        ("1970-01-01T00:00:00.000001Z", 1_000),
        ("1970-01-01T00:00:00.1234567891Z", 123_456_789),
        ("2026-08-31T23:59:59.999999999Z", 1_788_220_799_999_999_999),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * NS_PER_S),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T18:30:00-05:30", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01 00:00:00Z", 0),
        ("2446-05-10T22:38:55.999999999Z", LAST_S * NS_PER_S + 999_999_999),
    ],
)
def test_a_time_is_read_to_the_nanosecond(text: str, ns: int) -> None:
    assert parse_time_ns(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "1790000000",
        "2026-08-31",
        "2026-08-31T23:59Z",
        "2026-08-31T23:59:59",  # without a zone it could be any of 26 hours
        "2026-08-31T23:59:59.Z",
        "2026-08-31T23:59:59,5Z",
        "2026-08-31T23:59:59+0200",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-10T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-08-31T24:00:00Z",
        "2026-08-31T25:00:00Z",
        "2026-08-31T23:60:00Z",
        "2016-12-31T23:59:60Z",  # a second that there was, but not in the time of computers
        "2026-08-31T23:59:59+24:00",
        "20260831T235959Z",
        "12026-08-31T23:59:59Z",
        "1969-12-31T23:59:59.999999999Z",
        "2446-05-10T22:38:56Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        " 2026-08-31T23:59:59Z",
        "2026-08-31T23:59:59Z\n",
        "2026-08-31T23:59:59Z2026-08-31T23:59:59Z",
        "\ud800",
        "\u0662\u0660\u0662\u0666-08-31T23:59:59Z",
        "2026-08-31T23:59:59.\u0665Z",
    ],
)
def test_what_is_no_rfc3339_time_is_none(text: str) -> None:
    assert parse_time_ns(text) is None


@unhurried
@given(times)
def test_nothing_foreign_is_raised_for_any_time(text: str) -> None:
    assert isinstance(parse_time_ns(text), int | None)


@unhurried
@given(moments, st.integers(0, NS_PER_S - 1))
@example(datetime.min.replace(tzinfo=timezone(timedelta(hours=23))), 0)
@example(datetime.max.replace(tzinfo=timezone(-timedelta(hours=23))), NS_PER_S - 1)
def test_any_moment_in_any_zone_comes_back(moment: datetime, fraction_ns: int) -> None:
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
def test_a_namespace_has_an_inode_of_its_own(namespace: str) -> None:
    assert ROOT_INODE < namespace_inode(namespace) < 2**DAY_BITS_SHIFT


class DigestOfZeros:
    """What SHA-256 gives for some name, though nobody knows which."""

    def __init__(self, *_: object) -> None: ...

    def digest(self) -> bytes:
        return bytes(32)


def test_not_even_a_hash_of_zero_makes_an_inode_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashlib, "sha256", DigestOfZeros)

    assert Invoice("system", "a").inode > ROOT_INODE
    assert namespace_inode("system") > ROOT_INODE


@unhurried
@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2149, 1, 1)),
    st.datetimes(datetime(1970, 1, 1), datetime(2149, 1, 1)),
    st.text(min_size=1),
    st.text(min_size=1),
)
def test_inodes_grow_with_the_period(
    earlier: datetime, later: datetime, name: str, other: str
) -> None:
    earlier, later = sorted((earlier, later))
    assume(earlier.date() < later.date())

    assert (
        starting(earlier.date().isoformat(), name).inode
        < starting(later.date().isoformat(), other).inode
    )


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
def test_without_a_start_the_end_of_the_period_places_an_inode(period_start: str) -> None:
    invoice = replace(AUGUST, period_start=period_start, period_end="1970-01-03T00:00:00Z")

    assert invoice.inode >> DAY_BITS_SHIFT == 2


def test_a_period_that_starts_in_1970_is_placed_by_its_start() -> None:
    invoice = replace(AUGUST, period_start="1970-01-01T00:00:00Z")

    assert invoice.inode >> DAY_BITS_SHIFT == 0


def test_without_any_period_an_inode_is_the_lowest() -> None:
    assert replace(AUGUST, period_start="", period_end="").inode < starting("1970-01-02").inode


def test_namespaces_come_before_all_invoices_with_a_period() -> None:
    assert namespace_inode("system") < starting("1970-01-02").inode


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
def test_a_version_changes_with_what_may_change_the_content(change: dict[str, Any]) -> None:
    assert replace(AUGUST, **change).version != AUGUST.version


@pytest.mark.parametrize("change", [{"currency": "EUR"}, {"name": "b"}, {"namespace": "shared"}])
def test_a_version_does_not_change_with_anything_else(change: dict[str, Any]) -> None:
    assert replace(AUGUST, **change).version == AUGUST.version


@unhurried
@given(invoices, invoices)
@example(replace(AUGUST, amount="1", status=""), replace(AUGUST, amount="", status="1"))
@example(
    replace(AUGUST, amount="1\n", period_start=""), replace(AUGUST, amount="1", period_start="\n")
)
def test_versions_are_equal_exactly_where_those_fields_are(one: Invoice, other: Invoice) -> None:
    are_equal = all(getattr(one, field) == getattr(other, field) for field in VERSION_FIELDS)

    assert (one.version == other.version) is are_equal


# The mtime of the first content


def test_a_final_invoice_is_as_old_as_the_end_of_its_period() -> None:
    assert AUGUST.natural_mtime_ns == 1_788_220_799_999_999_999


def test_an_active_invoice_is_as_old_as_the_start_of_its_period() -> None:
    assert replace(AUGUST, active=True).natural_mtime_ns == 1_785_542_400 * NS_PER_S


@pytest.mark.parametrize("period", ["", "soon"])
@pytest.mark.parametrize(
    ("is_active", "field"), [(False, "period_end"), (True, "period_start")], ids=["final", "active"]
)
def test_an_invoice_without_that_time_has_no_natural_mtime(
    is_active: bool, field: str, period: str
) -> None:
    without: dict[str, Any] = {"active": is_active, field: period}

    assert replace(AUGUST, **without).natural_mtime_ns is None


# Listings


def names_of(listing: Listing) -> list[str]:
    return [invoice.name for invoice in listing.invoices]


def test_a_listing_is_in_the_order_of_the_periods() -> None:
    days = ("2026-03-01", "2024-12-01", "2026-01-01", "2025-06-01")

    listing = Listing.of([starting(day, day) for day in days])

    assert names_of(listing) == sorted(days)


@unhurried
@given(st.lists(invoices, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_a_listing_is_that_of_the_inodes_however_it_came(
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
def test_a_listing_is_the_same_whatever_the_order_and_the_duplicates(
    found: list[Invoice], shuffled: Random
) -> None:
    again = found * 2
    shuffled.shuffle(again)

    assert Listing.of(again) == Listing.of(found)
    assert len(Listing.of(found).invoices) == len({each.name for each in found})


def test_of_two_invoices_with_one_name_the_one_that_can_change_counts() -> None:
    running = replace(AUGUST, active=True, period_start="2020-01-01T00:00:00Z")

    for found in ([AUGUST, running], [running, AUGUST]):
        listing = Listing.of(found)

        assert listing.invoices == (running,)
        assert listing.by_file_name == {"invoice-acme-2026-08.pdf": running}


@unhurried
@given(st.lists(namesakes, max_size=6))
def test_what_can_change_by_any_of_its_lines_can_change(found: list[Invoice]) -> None:
    active = {each.name for each in found if each.active}

    assert {each.name for each in Listing.of(found).invoices if each.active} == active


def test_of_two_invoices_that_differ_in_their_currency_the_same_one_counts() -> None:
    other = replace(AUGUST, currency="EUR")

    assert Listing.of([AUGUST, other]) == Listing.of([other, AUGUST])


orders = pytest.mark.parametrize("order", Order)


@orders
@unhurried
@given(st.lists(invoices, max_size=5))
def test_every_invoice_stands_at_its_place_in_either_order(
    order: Order, found: list[Invoice]
) -> None:
    listing = Listing.of(found)
    sequence = listing.in_order(order)

    assert set(sequence) == set(listing.invoices)
    assert [listing.place(each, order) for each in sequence] == [*range(len(sequence))]


@orders
@pytest.mark.parametrize("day", ["2026-01-01", "2026-02-02", "2026-09-01"])
@pytest.mark.parametrize("name", ["a", "d", "z"])
def test_what_is_not_listed_has_no_place(order: Order, day: str, name: str) -> None:
    listing = Listing.of([starting("2026-02-01", "b"), starting("2026-03-01", "y")])

    assert listing.place(starting(day, name), order) is None


@orders
def test_an_invoice_keeps_its_place_when_it_changes(order: Order) -> None:
    listing = Listing.of([AUGUST, starting("2026-02-01")])
    changed = replace(AUGUST, active=True, amount="1")

    assert listing.place(changed, order) == listing.place(AUGUST, order) is not None


def test_the_order_of_names_is_that_of_the_files() -> None:
    listing = Listing.of([replace(AUGUST, name=name) for name in ("a", "a-b", "a/b", "a:b")])

    shown = [names.file_name(each.name) for each in listing.in_order(Order.NAME)]
    assert shown == ["a%2Fb.pdf", "a-b.pdf", "a.pdf", "a:b.pdf"]


@orders
def test_invoices_with_one_inode_have_different_places(
    monkeypatch: pytest.MonkeyPatch, order: Order
) -> None:
    monkeypatch.setattr(model, "_inode_hash", lambda *_: 2)
    listing = Listing.of([replace(AUGUST, name=name) for name in ("b", "a", "c")])

    assert names_of(listing) == ["a", "b", "c"]
    assert [listing.place(each, order) for each in listing.invoices] == [0, 1, 2]


@unhurried
@given(st.lists(invoices, max_size=5))
def test_every_listed_invoice_is_found_by_its_file_name(found: list[Invoice]) -> None:
    listing = Listing.of(found)

    assert set(listing.by_file_name.values()) == set(listing.invoices)
    assert all(
        listing.by_file_name[names.file_name(invoice.name)] == invoice
        for invoice in listing.invoices
    )


def test_a_listing_cannot_be_changed() -> None:
    listing = Listing.of([AUGUST])

    with pytest.raises(FrozenInstanceError):
        listing.invoices = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        listing.by_file_name["b.pdf"] = AUGUST  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        AUGUST.amount = "1"  # type: ignore[misc]


FINAL = starting("2026-01-01", "final")
ACTIVE = replace(starting("2026-02-01", "active"), active=True)
NEW = replace(starting("2026-03-01", "new"), active=True)


@pytest.mark.parametrize(
    ("newer", "left"),
    [
        ([], ["final"]),
        ([NEW], ["final", "new"]),
        ([ACTIVE, NEW], ["final", "active", "new"]),
        ([FINAL], ["final"]),
    ],
)
def test_a_newer_listing_loses_vanished_active_invoices_and_no_final_one(
    newer: list[Invoice], left: list[str]
) -> None:
    listing = Listing.of([FINAL, ACTIVE]).succeeded_by(Listing.of(newer))

    assert names_of(listing) == left
    assert list(listing.by_file_name) == [f"{name}.pdf" for name in left]


@pytest.mark.parametrize(
    "changed",
    [
        replace(FINAL, amount="2"),
        replace(FINAL, active=True),
        replace(FINAL, period_start="2027-01-01T00:00:00Z"),
    ],
)
def test_what_the_newer_listing_says_of_an_invoice_counts(changed: Invoice) -> None:
    listing = Listing.of([FINAL, ACTIVE]).succeeded_by(Listing.of([changed]))

    assert listing.invoices == (changed,)


def test_an_invoice_that_became_final_stays() -> None:
    final_by_now = replace(ACTIVE, active=False)

    listing = Listing.of([ACTIVE]).succeeded_by(Listing.of([final_by_now]))

    assert listing.succeeded_by(Listing()).invoices == (final_by_now,)


def test_the_first_listing_succeeds_an_empty_one() -> None:
    assert Listing().succeeded_by(Listing.of([AUGUST])).invoices == (AUGUST,)


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
def test_only_invoices_in_the_named_states_are_shown(
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
def test_invoices_with_one_key_are_one_invoice(one: Invoice, other: Invoice) -> None:
    assume(names.directory_name(one.namespace) and names.directory_name(other.namespace))

    assert (one.key == other.key) is ((one.namespace, one.name) == (other.namespace, other.name))


@unhurried
@given(invoices)
def test_a_key_is_text_that_every_database_takes(invoice: Invoice) -> None:
    assert "\x00" not in invoice.key.encode("utf-8").decode()


def test_a_content_never_shows_its_pdf() -> None:
    assert "secret" not in repr(Content(Record(0), b"%PDF-secret"))
