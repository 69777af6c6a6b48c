"""The JSON of the API is parsed, whatever it contains."""

import base64
import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invoicefs.api import parsing
from invoicefs.api.parsing import MAX_LISTED_VALUES, InvoicesResponse, error_message
from invoicefs.api.pdf_parsing import parse_pdf
from invoicefs.clock import Deadline
from invoicefs.errors import TimedOut, TooLarge, UnusableResponse
from invoicefs.model import Invoice, NamespaceList
from invoicefs.names import directory_name
from tests.support.fake_clock import FakeClock

AMPLE = Deadline.after(20, FakeClock())


def parse_json(body: bytes) -> object:
    return parsing.parse_json(body, MAX_LISTED_VALUES)


def parse_namespaces(answer: object, secret: str = "") -> NamespaceList:
    return parsing.parse_namespaces(answer, secret, deadline=AMPLE)


def parse_invoices(answer: object, namespace: str, secret: str = "") -> InvoicesResponse:
    return parsing.parse_invoices(answer, namespace, secret, deadline=AMPLE)


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

LIMIT_BYTES = 1000
SECRET = "aB3dE6"
PDF = b"%PDF-1.7\n\xfb\xff\xbf\x00 all bits \xfe%%EOF\n"

LINE = {
    "name": "invoice-acme-2026-08",
    "active": False,
    "amount": "129900",
    "currency": "USD",
    "period_start": "2026-08-01T00:00:00Z",
    "period_end": "2026-08-31T23:59:59.999999999Z",
    "status": "STATUS_PAID",
}
AUGUST = Invoice(
    namespace="system",
    name="invoice-acme-2026-08",
    active=False,
    status="paid",
    amount="129900",
    currency="USD",
    period_start="2026-08-01T00:00:00Z",
    period_end="2026-08-31T23:59:59.999999999Z",
)
EMPTY_FIELDS: dict[str, object] = {
    "active": False,
    "amount": "",
    "currency": "",
    "period_start": "",
    "period_end": "",
    "status": "unknown",
}
FIELDS = pytest.mark.parametrize("field", sorted(EMPTY_FIELDS))

texts = st.text(st.characters(), max_size=10)
field_names = st.one_of(
    st.sampled_from(["items", "invoices", "pdf", "errors", "message", "error", *LINE]), texts
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(field_names, inner, max_size=3)
    ),
    max_leaves=5,
)
lines = st.dictionaries(st.sampled_from(sorted(LINE)), values)
answers = st.one_of(
    values,
    st.fixed_dictionaries({"invoices": st.lists(st.one_of(lines, values), max_size=3)}),
    st.fixed_dictionaries({"items": st.lists(st.one_of(lines, values), max_size=3)}),
    st.fixed_dictionaries(
        {"pdf": st.one_of(st.binary().map(base64.b64encode).map(bytes.decode), values)}
    ),
)
json_bodies = answers.map(lambda answer: json.dumps(answer).encode())


def invoices_of(*found: object) -> tuple[Invoice, ...]:
    return parse_invoices({"invoices": list(found)}, "system").invoices


# JSON


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b' {"a": [1.5, "b", null]}\r\n', {"a": [1.5, "b", None]}),
        (b'{"a": -12}', {"a": "-12"}),
        (b"9" * 5000, "9" * 5000),
    ],
)
def test_json_is_read(body: bytes, value: object) -> None:
    assert parse_json(body) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html><body>Bad Gateway</body></html>",
        b"no healthy upstream",
        b'{"invoices": [',
        b'{"a": 1} trailing',
        b"{'a': 1}",
        b"\xff\xfe",
        b'"\xff"',
        b"\x1f\x8b\x08\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 2000 + b"]" * 1999,
    ],
)
def test_invalid_json_is_unusable(body: bytes) -> None:
    with pytest.raises(UnusableResponse):
        parse_json(body)


@pytest.mark.parametrize(
    "deep",
    [
        b"[" * 2000 + b"]" * 2000,
        b'{"a":' * 2000 + b'"]}"' + b"}" * 2000,
        b'["\\"[", [%b]]' % (b"[" * 1500 + b"]" * 1500),
    ],
)
def test_a_deeply_nested_field_is_ignored(deep: bytes) -> None:
    body = b'{"invoices": [{"name": "a", "amount": %b}, %b]}' % (deep, json.dumps(LINE).encode())

    found = parse_invoices(parse_json(body), "system").invoices

    assert found == (Invoice("system", "a"), AUGUST)


@pytest.mark.parametrize("part", [b"[],", b"{},", b"0,", b'"",', b'{"":{"":0}},'])
def test_values_are_counted_before_they_are_built(part: bytes) -> None:
    """Tens of millions of values, in 59 KiB of gzip, took 1.3 GB and half a minute."""
    body = b"[" + part * 1_000_000 + b"0]"

    with pytest.raises(UnusableResponse, match="more values"):
        parsing.parse_json(body, 999_999)


def test_a_list_of_300_000_invoices_is_within_the_limit() -> None:
    line = json.dumps({**LINE, "name": "acme, a name, with commas"}).encode()

    answer = parse_json(b'{"invoices": [' + b",".join([line] * 300_000) + b"]}")

    assert isinstance(answer, dict)
    assert len(answer["invoices"]) == 300_000


@pytest.mark.parametrize("key", ["pdf", "items", "invoices"])
@pytest.mark.parametrize("second", ["null", "same"])
def test_a_repeated_key_makes_the_response_unusable(key: str, second: str) -> None:
    value = json.dumps({"pdf": base64.b64encode(PDF).decode()}.get(key, [LINE]))
    body = f'{{"{key}": {value}, "{key}": {value if second == "same" else "null"}}}'
    answer = parse_json(body.encode())

    parse: dict[str, Callable[[object], object]] = {
        "pdf": lambda answer: parse_pdf(answer, LIMIT_BYTES),
        "items": parse_namespaces,
        "invoices": lambda answer: parse_invoices(answer, "system"),
    }

    with pytest.raises(UnusableResponse):
        parse[key](answer)


@pytest.mark.parametrize("key", ["invoices", "items"])
def test_a_list_with_two_names_for_one_item_is_unusable(key: str) -> None:
    answer = parse_json(b'{"%b": [{"name": "a", "name": "b"}]}' % key.encode())

    with pytest.raises(UnusableResponse):
        parse_namespaces(answer) if key == "items" else parse_invoices(answer, "system")


def test_a_field_with_two_values_is_ignored() -> None:
    answer = parse_json(b'{"invoices": [{"name": "a", "name": "a", "amount": "1", "amount": "2"}]}')

    assert parse_invoices(answer, "system").invoices == (Invoice("system", "a"),)


def test_no_list_is_parsed_past_its_deadline() -> None:
    over = Deadline.after(0, FakeClock())

    with pytest.raises(TimedOut):
        parsing.parse_namespaces({"items": [LINE]}, deadline=over)
    with pytest.raises(TimedOut):
        parsing.parse_invoices({"invoices": [LINE]}, "system", deadline=over)


@unhurried
@given(st.one_of(st.binary(), json_bodies))
@example(b"\xed\xa0\x80")
@example(b'"\\ud800"')
def test_any_body_is_json_or_unusable(body: bytes) -> None:
    with contextlib.suppress(UnusableResponse):
        parse_json(body)


# Invoices: the fields


def test_every_field_of_an_invoice_is_read() -> None:
    assert parse_invoices({"invoices": [LINE]}, "system") == InvoicesResponse((AUGUST,), 1)


@pytest.mark.parametrize("how", ["absent", "null"])
@FIELDS
def test_a_field_that_is_absent_or_null_is_empty(field: str, how: str) -> None:
    line: dict[str, object] = {**LINE, field: None}
    if how == "absent":
        del line[field]

    (invoice,) = invoices_of(line)

    assert getattr(invoice, field) == EMPTY_FIELDS[field]
    without: dict[str, Any] = {field: ""}
    assert replace(invoice, **without) == replace(AUGUST, **without)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field in sorted(EMPTY_FIELDS)
        for value in ([], {}, ["STATUS_PAID"], {"value": "1"}, 1.5, True)
        if (field, value) != ("active", True)
    ],
)
def test_a_field_of_a_wrong_type_is_ignored_and_logged(
    caplog: pytest.LogCaptureFixture, field: str, value: object
) -> None:
    (invoice, other) = invoices_of({**LINE, field: value}, {**LINE, "name": "other"})

    empty = True if field == "active" else EMPTY_FIELDS[field]
    assert getattr(invoice, field) == empty
    without: dict[str, Any] = {field: ""}
    assert replace(invoice, **without) == replace(AUGUST, **without)
    assert other.status == "paid"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert field in record.getMessage()
    assert "invoice-acme-2026-08" in record.getMessage()


@pytest.mark.parametrize(
    ("active", "can_change"),
    [
        (True, True),
        (False, False),
        (None, False),
        ("true", True),
        ("false", True),
        (0, True),
        (1, True),
        ([], True),
        ("", True),
    ],
)
def test_an_invoice_is_final_if_active_is_false_or_null(active: object, can_change: bool) -> None:
    (invoice,) = invoices_of({**LINE, "active": active})

    assert invoice.active is can_change


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("STATUS_PAID", "paid"),
        ("OVERDUE", "overdue"),
        ("STATUS_UNKNOWN", "unknown"),
        ("STATUS_CANCELLED", "cancelled"),
        ("STATUS_PARTLY_REFUNDED", "unknown"),
        ("Paid", "paid"),
        ("STATUS_", "unknown"),
        ("", "unknown"),
        ("3", "unknown"),
        (None, "unknown"),
        (True, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_status_is_one_that_the_api_defines(sent: object, status: str) -> None:
    (invoice,) = invoices_of({**LINE, "status": sent})

    assert invoice.status == status


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("status", "STATUS_PARTLY_REFUNDED"),
        ("amount", "twelve"),
        ("amount", "12.50"),
        ("amount", "\u0661\u0662"),
        ("period_start", "soon"),
        ("period_end", "2026-02-30T00:00:00Z"),
    ],
)
@pytest.mark.parametrize("count", [1, 500])
def test_invalid_values_are_kept_and_logged_on_one_line(
    caplog: pytest.LogCaptureFixture, field: str, text: str, count: int
) -> None:
    odd = [{**LINE, "name": f"odd-{number}", field: text} for number in range(count)]

    found = invoices_of(LINE, *odd, {**LINE, "name": "last"})

    assert len(found) == count + 2
    kept = "unknown" if field == "status" else text
    assert {getattr(invoice, field) for invoice in found} == {kept, getattr(AUGUST, field)}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for word in (field, f" {count} ", "system", "odd-0", text):
        assert word in record.getMessage()


def test_valid_and_absent_values_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    statuses = ("STATUS_UNKNOWN", "STATUS_PAID", "STATUS_CANCELLED", "OVERDUE", "paid", "", None)
    invoices_of(LINE, {"name": "bare"}, *({**LINE, "status": status} for status in statuses))

    assert caplog.records == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("status", f"STATUS_{status}") for status in ("ISSUED", "PENDING", "REFUNDED")),
        *(("amount", amount) for amount in ("-5", "0", "007")),
        *((period, "1970-01-01T00:00:00Z") for period in ("period_start", "period_end")),
        ("currency", "anything"),
    ],
)
def test_values_that_the_vendor_may_send_are_not_logged(
    caplog: pytest.LogCaptureFixture, field: str, value: object
) -> None:
    invoices_of({**LINE, field: value})

    assert caplog.records == []


def test_a_log_line_counts_one_field_and_shows_its_first_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    invoices_of(
        {"amount": "5"},
        {**LINE, "amount": ["twelve"], "active": "perhaps"},
        {**LINE, "name": "second", "amount": "thirteen"},
    )

    assert [record.getMessage().replace("The field ", "") for record in caplog.records] == [
        "'name' of 1 invoices in system is invalid; the first is {'amount': '5'} of None",
        "'active' of 1 invoices in system is invalid;"
        " the first is 'perhaps' of 'invoice-acme-2026-08'",
        "'amount' of 2 invoices in system is invalid;"
        " the first is ['twelve'] of 'invoice-acme-2026-08'",
    ]


@pytest.mark.parametrize(
    ("sent", "amount"),
    [(129900, "129900"), (0, "0"), (-5, "-5"), (2**63 - 1, "9223372036854775807"), ("007", "007")],
)
def test_an_amount_may_be_sent_as_a_number(sent: object, amount: str) -> None:
    answer = parse_json(json.dumps({"invoices": [{**LINE, "amount": sent}]}).encode())

    assert parse_invoices(answer, "system").invoices == (replace(AUGUST, amount=amount),)


def test_a_name_may_be_sent_as_a_number() -> None:
    lists = parse_json(b'{"invoices": [{"name": 202608}], "items": [{"name": 7}]}')

    (invoice,) = parse_invoices(lists, "system").invoices
    assert invoice.name == "202608"
    assert parse_namespaces(lists).names == ("7",)


# Invoices: the list


@pytest.mark.parametrize(
    "unnamed", [{}, {"name": ""}, {"name": None}, {"name": 5}, None, "a", 5, []]
)
def test_an_invoice_without_a_name_is_counted_logged_and_skipped(
    caplog: pytest.LogCaptureFixture, unnamed: object
) -> None:
    answer = parse_invoices({"invoices": [unnamed, LINE]}, "system")

    assert answer == InvoicesResponse((AUGUST,), 2)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "system" in record.getMessage()


@pytest.mark.parametrize(
    "item", [b"%s", b'{"name": %s}', b'{"name": "a", "amount": %s}', b'{"name": "a", "active": %s}']
)
def test_a_response_of_any_depth_is_parsed(item: bytes) -> None:
    """A value that can be parsed may be too deep to be shown in the log."""
    for depth in (*range(1, 60), *range(900, 1000), 2000, 10_000):
        answer = parse_json(body_of(item, depth))
        with contextlib.suppress(UnusableResponse):
            assert parse_invoices(answer, "system").count == 1
        with contextlib.suppress(UnusableResponse):
            assert len(parse_namespaces(answer).names) == 1


def body_of(item: bytes, depth: int) -> bytes:
    deep = item % (b"[" * depth + b"]" * depth)
    return b'{"invoices": [%s], "items": [%s]}' % (deep, deep)


def test_a_log_line_about_an_item_is_short(caplog: pytest.LogCaptureFixture) -> None:
    invoices_of({"name": "", "amount": "x" * 100_000}, {**LINE, "active": "x" * 100_000})

    assert len(caplog.records) == 2
    assert all(len(record.getMessage()) < 300 for record in caplog.records)


def test_invoices_keep_the_order_of_the_server_and_duplicates_count() -> None:
    older = {**LINE, "name": "older"}

    answer = parse_invoices({"invoices": [LINE, older, LINE]}, "system")

    assert [invoice.name for invoice in answer.invoices] == [AUGUST.name, "older", AUGUST.name]
    assert answer.count == 3


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".", "%2F", "a b", "ä😀", "\ud800", "\x00", "x" * 5000]
)
def test_an_invoice_may_have_any_name(name: str) -> None:
    (invoice,) = invoices_of({**LINE, "name": name})

    assert invoice.name == name


@pytest.mark.parametrize("answer", [{}, {"invoices": []}, {"invoices": None}])
def test_an_empty_list_of_invoices_is_valid(answer: object) -> None:
    assert parse_invoices(answer, "system") == InvoicesResponse((), 0)


@pytest.mark.parametrize("answer", [{}, {"items": []}, {"items": None}])
def test_an_empty_list_of_namespaces_is_valid(answer: object) -> None:
    assert parse_namespaces(answer) == NamespaceList(())


NO_OBJECTS: list[object] = [None, True, 0, 1.5, "", "text", [], [LINE], [{"name": "system"}]]
NO_LISTS: list[object] = [{}, {"0": LINE}, "", "[]", 0, 5, False, True, 1.5]
OTHER_KEYS: list[dict[str, object]] = [
    {"code": 13, "message": "internal"},
    {"error": "upstream failed"},
    {"message": ""},
    {"": None},
    {"data": []},
    {"Invoices": [LINE], "Items": [{"name": "system"}]},
    {"result": {"invoices": [LINE], "items": [{"name": "system"}]}},
    {"next_page": ""},
]


@pytest.mark.parametrize("value", NO_LISTS)
def test_a_value_that_is_not_a_list_is_unusable(value: object) -> None:
    with pytest.raises(UnusableResponse):
        parse_invoices({"invoices": value}, "system")
    with pytest.raises(UnusableResponse):
        parse_namespaces({"items": value})


@pytest.mark.parametrize("answer", OTHER_KEYS)
def test_an_object_without_the_list_is_never_an_empty_list(
    answer: dict[str, object],
) -> None:
    for fields in (answer, {**answer, "invoices": None}):
        with pytest.raises(UnusableResponse):
            parse_invoices(fields, "system")
    for fields in (answer, {**answer, "items": None}):
        with pytest.raises(UnusableResponse):
            parse_namespaces(fields)


@pytest.mark.parametrize("answer", OTHER_KEYS)
def test_other_keys_beside_the_list_are_ignored(answer: dict[str, object]) -> None:
    assert parse_invoices({**answer, "invoices": [LINE]}, "system").invoices == (AUGUST,)
    assert parse_namespaces({**answer, "items": [{"name": "a", **answer}]}).names == ("a",)


def test_a_list_of_another_endpoint_is_unusable() -> None:
    with pytest.raises(UnusableResponse):
        parse_invoices({"items": [LINE]}, "system")
    with pytest.raises(UnusableResponse):
        parse_invoices({"errors": []}, "system")
    with pytest.raises(UnusableResponse):
        parse_namespaces({"invoices": [LINE]})


# Namespaces


def test_namespaces_keep_their_order_without_duplicates() -> None:
    items = [{"name": "system"}, {"name": "shared", "uid": "1"}, {"name": "system"}]

    assert parse_namespaces({"items": items}) == NamespaceList(("system", "shared"))


@pytest.mark.parametrize(
    "unusable",
    [{}, {"name": ""}, {"name": "."}, {"name": ".."}, {"name": "x" * 256}, {"name": 5}, None, "a"],
)
def test_a_namespace_without_a_usable_name_is_logged_and_skipped(
    caplog: pytest.LogCaptureFixture, unusable: object
) -> None:
    assert parse_namespaces({"items": [unusable, {"name": "system"}]}).names == ("system",)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize(
    ("errors", "is_partial"), [([{"code": "EPERMS"}], True), ([], False), (None, False)]
)
def test_an_errors_field_makes_the_namespace_list_partial(errors: object, is_partial: bool) -> None:
    answer = {"items": [{"name": "system"}], "errors": errors}

    assert parse_namespaces(answer) == NamespaceList(("system",), is_partial)


# Error bodies


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"code": 7, "message": "no access"}', "no access"),
        (b'{"error": "no access"}', "no access"),
        (b'{"message": "no access", "error": "other"}', "no access"),
        (b'{"message": "", "error": "no access"}', "no access"),
        (b'{"message": null, "error": "no access"}', "no access"),
        (b'"no access"', "no access"),
        (b' "no access" \n', "no access"),
        (b'{"message": "  two\\n lines\\u0000\\u001b[0m\\u2028 "}', "two lines [0m"),
        (b'{"message": "\\ud800"}', ""),
        ('{"message": "Zugriff verweigert: für Sie"}'.encode(), "Zugriff verweigert: für Sie"),
    ],
)
def test_a_server_message_becomes_one_line(body: bytes, words: str) -> None:
    assert error_message(body, SECRET) == words


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><h1>502 Bad Gateway</h1></html>",
        b"no healthy upstream",
        b"\xff\x00",
        b"{",
        b"{}",
        b"[]",
        b'["no access"]',
        b"null",
        b"true",
        b"4.2",
        b'{"code": 7}',
        b'{"message": {"text": "no access"}}',
        b'{"message": ["no access"]}',
        b'{"message": 7.5}',
        b"[" * 100_000,
    ],
)
def test_a_body_without_a_message_yields_an_empty_text(body: bytes) -> None:
    assert error_message(body, SECRET) == ""


def test_a_long_server_message_is_truncated() -> None:
    words = error_message(json.dumps({"message": "word " * 10_000}).encode(), SECRET)

    assert words.startswith("word word")
    assert len(words) <= 200


@unhurried
@given(st.one_of(st.binary(), json_bodies, texts.map(json.dumps).map(str.encode)))
def test_a_server_message_is_short_and_printable_for_any_body(body: bytes) -> None:
    words = error_message(body, SECRET)

    assert len(words) <= 200
    assert words.isprintable()
    assert words == words.strip()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (f"bad token {SECRET}", "bad token ***"),
        (f"{SECRET}{SECRET}, APIToken {SECRET}!", "******, APIToken ***!"),
        (SECRET, "***"),
        ("x" * 197 + SECRET, "x" * 197 + "***"),
        ("x" * 199 + SECRET, "x" * 199 + "*"),
    ],
)
@pytest.mark.parametrize("form", ['{"message": %s}', '{"error": %s, "code": 16}', "%s"])
def test_a_token_in_a_server_message_is_masked(form: str, message: str, words: str) -> None:
    body = (form % json.dumps(message)).encode()

    assert error_message(body, SECRET) == words


def test_a_server_message_is_unchanged_without_a_token() -> None:
    assert error_message(b'"no access"', "") == "no access"


# Any JSON


@unhurried
@given(answers)
def test_any_json_parses_as_invoices_or_is_unusable(answer: object) -> None:
    try:
        found = parse_invoices(answer, "system")
    except UnusableResponse:
        return
    assert isinstance(answer, dict)
    assert found.count == len(answer.get("invoices") or [])
    assert len(found.invoices) <= found.count
    for invoice in found.invoices:
        assert invoice.name
        assert invoice.namespace == "system"
        assert isinstance(invoice.active, bool)
        for field in ("status", "amount", "currency", "period_start", "period_end"):
            assert isinstance(getattr(invoice, field), str)
        assert invoice.inode > 1


@unhurried
@given(answers)
def test_any_json_parses_as_namespaces_or_is_unusable(answer: object) -> None:
    try:
        found = parse_namespaces(answer)
    except UnusableResponse:
        return
    assert all(directory_name(name) for name in found.names)
    assert len(set(found.names)) == len(found.names)


@unhurried
@given(answers)
def test_any_json_parses_as_a_pdf_or_is_refused(answer: object) -> None:
    try:
        pdf = parse_pdf(answer, LIMIT_BYTES)
    except (UnusableResponse, TooLarge):
        return
    assert pdf.startswith(b"%PDF-")
    assert len(pdf) <= LIMIT_BYTES


@pytest.mark.parametrize("key", ["invoices", "items"])
@unhurried
@given(fields=st.dictionaries(field_names, values, min_size=1, max_size=4))
@example(fields={"errors": "x", "message": "y"})
def test_only_an_absent_or_empty_list_is_an_empty_list(key: str, fields: dict[str, object]) -> None:
    fields.pop(key, None)
    others = fields.keys() - ({"errors"} if key == "items" else set())

    try:
        found = parse_invoices(fields, "s").invoices if key == "invoices" else ()
        if key == "items":
            parse_namespaces(fields)
    except UnusableResponse:
        return
    assert not others
    assert found == ()
