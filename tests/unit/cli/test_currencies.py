"""Amounts in the smallest unit of a currency."""

import pytest

from invoicefs.cli.currencies import decimal_amount, whole_number


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (123450, "EUR", "1234.50"),
        (300, "JPY", "300"),
        (-1234567, "BHD", "-1234.567"),
        (5, "CLF", "0.0005"),
        (0, "USD", "0.00"),
        (-1, "USD", "-0.01"),
        (10**30 - 1, "EUR", "9" * 28 + ".99"),
    ],
)
def test_an_amount_has_the_digits_of_its_currency(
    amount_minor: int, currency: str, text: str
) -> None:
    assert str(decimal_amount(amount_minor, currency)) == text


@pytest.mark.parametrize("currency", ["", "XBT", "eur", "XAU", "XTS", "€"])
def test_the_amount_in_an_unknown_currency_is_unknown(currency: str) -> None:
    assert decimal_amount(100, currency) is None
    assert decimal_amount(None, "EUR") is None


@pytest.mark.parametrize("text", ["", "12.50", "1e3", "+5", " 5", "٣", "--5", "5\n", "9" * 31])
def test_text_that_is_no_whole_number_is_no_amount(text: str) -> None:
    assert whole_number(text) is None
    assert whole_number("-0012") == -12
