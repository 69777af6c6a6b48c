"""How listings and records are written down: what comes back, and what is not read at all."""

import hashlib
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invoicefs.model import Invoice, Listing, Record, StoredContent
from invoicefs.store.encoding import (
    listing_fields,
    listing_from,
    namespaces_from,
    record_fields,
    record_from,
    sealed,
    unsealed,
)

T = TypeVar("T")

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEY = "record/system/a.pdf"

keys = st.text(max_size=8)
texts = st.text(max_size=8)
numbers = st.one_of(st.integers(), st.integers(2**62, 2**70), st.just(10**30))


def nested(leaves: st.SearchStrategy[T]) -> st.SearchStrategy[object]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=7), st.dictionaries(texts, inner, max_size=3)
        ),
        max_leaves=12,
    )


values = nested(st.one_of(st.none(), st.booleans(), numbers, st.floats(allow_nan=False), texts))
# Of the shape of what is kept, so that only a few fields are wrong.
fields = st.one_of(numbers, texts, st.booleans(), st.none())
shaped = st.one_of(
    values,
    st.lists(fields, max_size=6),
    st.tuples(numbers, numbers, texts, texts, numbers).map(list),
    st.lists(st.one_of(st.lists(texts, min_size=7, max_size=7), st.lists(fields, max_size=8))),
    st.lists(st.tuples(texts, st.booleans(), texts, texts, texts, texts, texts).map(list)),
)
contents = st.builds(StoredContent, st.integers(1, 10**30), texts, texts, numbers)
listed = st.builds(
    Invoice, st.just("system"), texts, st.booleans(), texts, texts, texts, texts, texts
)


def sealed_text(key: str, text: str) -> str:
    """A text with the seal that it would have if it were JSON."""
    return hashlib.sha256(f"{key}\n{text}".encode()).hexdigest() + text


# The seal


@unhurried
@given(keys, values)
def test_what_was_sealed_comes_back_under_its_key(key: str, value: object) -> None:
    assert unsealed(key, sealed(key, value)) == value


@unhurried
@given(keys, keys, values)
@example("", "\n", 1)
@example("a", "a\n", 1)
def test_what_was_sealed_is_nothing_under_another_key(one: str, other: str, value: object) -> None:
    assert one == other or unsealed(other, sealed(one, value)) is None


@unhurried
@given(values, st.integers(0), st.characters())
def test_with_one_other_character_nothing_is_read(
    value: object, place: int, character: str
) -> None:
    whole = sealed(KEY, value)
    place %= len(whole)
    spoilt = whole[:place] + character + whole[place + 1 :]

    assert spoilt == whole or unsealed(KEY, spoilt) is None


@unhurried
@given(values, st.integers(0), st.characters())
def test_what_was_cut_or_lengthened_is_not_read(value: object, length: int, more: str) -> None:
    whole = sealed(KEY, value)

    assert unsealed(KEY, whole[: length % len(whole)]) is None
    assert unsealed(KEY, whole + more) is None


@unhurried
@given(st.one_of(st.text(st.characters()), st.binary(), st.integers(), st.floats(), st.none()))
def test_what_was_never_sealed_is_not_read(stored: object) -> None:
    assert unsealed(KEY, stored) is None


# Values


@unhurried
@given(shaped)
def test_any_value_is_names_of_namespaces_or_none(value: object) -> None:
    assert all(isinstance(name, str) for name in namespaces_from(value))


@unhurried
@given(shaped)
def test_any_value_is_a_listing_with_usable_invoices_or_none(value: object) -> None:
    listing = listing_from("system", value)

    assert (listing is not None) == isinstance(value, list)
    for invoice in listing.invoices if listing else ():
        assert (invoice.namespace, type(invoice.active)) == ("system", bool)
        assert invoice.inode > 0
        assert isinstance(invoice.natural_mtime_ns, int | None)


@unhurried
@given(shaped)
@example([1, 0, "", "", 1])
@example([1, -1, "", "", 1])
def test_any_value_is_a_record_with_a_size_or_none(value: object) -> None:
    record = record_from(value)

    assert isinstance(record, Record | None)
    if record is not None:
        assert isinstance(record.mtime_ns, int)
    if record is not None and record.content is not None:
        assert record.content.size_bytes > 0
        assert isinstance(record.content.fetched_ns, int)


@unhurried
@given(st.lists(listed, max_size=5).map(Listing.of))
def test_a_listing_comes_back(listing: Listing) -> None:
    assert listing_from("system", unsealed(KEY, sealed(KEY, listing_fields(listing)))) == listing


@unhurried
@given(st.builds(Record, numbers, st.one_of(st.none(), contents)))
def test_a_record_comes_back(record: Record) -> None:
    assert record_from(unsealed(KEY, sealed(KEY, record_fields(record)))) == record


# Somebody else's


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "9" * 10_000, "NaN, 1", "\x00"])
def test_a_seal_around_what_is_no_json_is_not_believed(text: str) -> None:
    assert unsealed(KEY, sealed_text(KEY, text)) is None


@unhurried
@given(keys, st.text(st.characters(max_codepoint=127)))
def test_any_sealed_text_is_a_value_or_none(key: str, text: str) -> None:
    namespaces_from(unsealed(key, sealed_text(key, text)))
