"""Amounts of money in the smallest unit of a currency, as decimals. Pure functions.

The numbers of digits are those of ISO 4217, list one, of 2026-01-01. Currencies that were withdrawn
after 2020 are included, because invoices keep them. Units without a number of digits, such as
gold (XAU) and the code for tests (XTS), are not.
"""

import re
from decimal import Decimal
from typing import Final

_DIGITS: Final = {
    code: digits
    for digits, codes in {
        0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
        2: (
            "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN"
            " BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD"
            " FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW"
            " KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR"
            " MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG"
            " SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD"
            " USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG"
            " ANG BGN CUC HRK SLL ZWL"  # withdrawn
        ),
        3: "BHD IQD JOD KWD LYD OMR TND",
        4: "CLF UYW",
    }.items()
    for code in codes.split()
}
_WHOLE_NUMBER: Final = re.compile(r"-?\d{1,30}", re.ASCII)


def minor_digits(currency: str) -> int | None:
    """Return how many digits the smallest unit has, or None for an unknown currency.

    >>> minor_digits("EUR"), minor_digits("JPY"), minor_digits("euro")
    (2, 0, None)
    """
    return _DIGITS.get(currency)


def whole_number(text: str) -> int | None:
    """Return the amount in smallest units that the API sends, or None if it is no number."""
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None


def decimal_amount(amount_minor: int | None, currency: str) -> Decimal | None:
    """Return an amount with the digits of its currency; None if either is unknown.

    >>> str(decimal_amount(123450, "EUR")), str(decimal_amount(-5, "BHD"))
    ('1234.50', '-0.005')
    """
    digits = minor_digits(currency)
    if amount_minor is None or digits is None:
        return None
    # Unlike a division, this is exact: decimal arithmetic rounds to 28 digits.
    sign, numerals = int(amount_minor < 0), tuple(map(int, str(abs(amount_minor))))
    return Decimal((sign, numerals, -digits))
